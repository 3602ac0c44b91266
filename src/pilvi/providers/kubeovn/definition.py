"""What a NetworkAttachmentDefinition asks for, checked: the one place where its configuration is read. Pure.

Of all CNI plug-ins there is Kube-OVN's alone here: a machine has no namespace of its own in which another one could do its work.
"""

from __future__ import annotations

import json
from typing import Any

from pilvi.api import JsonObject, Key
from pilvi.providers.attachments import Attachment
from pilvi.providers.kubeovn.subnet.plan import Refusal

__all__ = ["check_definition", "find_fault", "find_unused"]

_TYPE = "kube-ovn"
# `server_socket` is where Kube-OVN's own plug-in finds its daemon.
_KNOWN = {"cniVersion", "name", "type", "server_socket", "provider"}


def find_fault(definition: JsonObject) -> Refusal | None:
    """Why no machine can join this NetworkAttachmentDefinition; None when it can."""
    config = _read(definition)
    if isinstance(config, Refusal):
        return config
    provider = _provider(definition)
    if config.get("type") != _TYPE:
        return Refusal(
            "TypeNotSupported",
            f"spec.config: type {config.get('type')!r} is not served; write type {_TYPE} with provider {provider}, "
            "and make a Subnet with that spec.provider",
        )
    if config.get("provider") != provider:
        return Refusal("InvalidProvider", f"spec.config: provider is {config.get('provider')!r}, and has to be {provider}")
    return None


def find_unused(definition: JsonObject) -> list[str]:
    """What of a configuration that is served has no effect."""
    config = _read(definition)
    return [] if isinstance(config, Refusal) else sorted(config.keys() - _KNOWN)


def check_definition(attachment: Attachment, definition: JsonObject | None) -> Refusal | None:
    """What keeps a machine from joining this network; None when nothing does."""
    key = attachment.definition
    if key is None:
        return None
    if definition is None:
        return Refusal("DefinitionNotFound", f"network {attachment.name}: there is no NetworkAttachmentDefinition {key}; create it")
    fault = find_fault(definition)
    return Refusal(fault.reason, f"network {attachment.name}: NetworkAttachmentDefinition {key}: {fault.message}") if fault else None


def _provider(definition: JsonObject) -> str:
    key = Key.of(definition)
    return f"{key.name}.{key.namespace}.ovn"


def _read(definition: JsonObject) -> dict[str, Any] | Refusal:
    """The configuration of the one plug-in; also of a list of plug-ins with one in it."""
    text = (definition.get("spec") or {}).get("config") or ""
    try:
        config = json.loads(text)
    except ValueError as e:
        return Refusal("InvalidConfig", f"spec.config is not JSON: {e}")
    plugins = config.get("plugins") if isinstance(config, dict) else None
    if isinstance(plugins, list):
        if len(plugins) != 1:
            return Refusal("InvalidConfig", f"spec.config: plugins has {len(plugins)} entries; write {_TYPE} alone")
        config = plugins[0]
    if not isinstance(config, dict):
        return Refusal("InvalidConfig", "spec.config is no JSON object; write type and provider")
    return config
