"""Container disks: from what a volume names to a file on this host, pulled in the background."""

from __future__ import annotations

import base64
from typing import Any

from pilvi.api.resource import JsonObject, Key
from pilvi.errors import UserError
from pilvi.images import Credentials, Policy, Pulled, PullFailed, Pulls, Reference, parse_reference, read_docker_config
from pilvi.lib.clock import utc_now
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.volumes.ready import VolumeNotReady
from pilvi.providers.kubevirt.machines.volumes import ImageDisk

__all__ = ["ContainerDisks", "pull_policy"]

_LATER_S = 0.1
_POLICIES = ("Always", "IfNotPresent", "Never")


class ContainerDisks:
    """Resolves volumes of the kind containerDisk."""

    def __init__(self, pulls: Pulls, caches: Caches) -> None:
        self._pulls = pulls
        self._secrets = caches.secrets

    def resolve(self, scope: Scope, volume: JsonObject) -> ImageDisk:
        """The disk. Raises UserError for what a person must mend, VolumeNotReady while it is pulled and after a failed pull."""
        disk = volume["containerDisk"]
        reference = parse_reference(disk["image"])
        credentials = self._credentials(scope.key.namespace, reference, disk.get("imagePullSecret"))
        match self._pulls.look(reference, pull_policy(reference, disk.get("imagePullPolicy")), credentials, disk.get("path")):
            case Pulled(disk=found):
                return ImageDisk(str(volume["name"]), found.path, found.format, found.size_bytes)
            case PullFailed(failures=failures, message=message, retry_at=retry_at):
                wait_s = max((retry_at - utc_now()).total_seconds(), 0.0) + _LATER_S
                # kubelet's words.
                raise VolumeNotReady("ErrImagePull" if failures == 1 else "ImagePullBackOff", message, wait_s, failed=True)
            case pulling:
                share = f" ({pulling.done * 100 // pulling.total} %)" if pulling.total else ""
                raise VolumeNotReady("ContainerCreating", f"pulling {reference}{share}")

    def _credentials(self, namespace: str, reference: Reference, secret_name: str | None) -> Credentials | None:
        if not secret_name:
            return None
        key = Key(namespace, secret_name)
        secret = self._secrets.get(key)
        if secret is None:
            raise UserError(f"pull Secret {key} does not exist", hint="make it with `kubectl create secret docker-registry`")
        content = (secret.get("data") or {}).get(".dockerconfigjson")
        if content is None:
            raise UserError(f"pull Secret {key} has no key .dockerconfigjson", hint="make it with `kubectl create secret docker-registry`")
        return read_docker_config(base64.b64decode(content)).get(reference.host)


def pull_policy(reference: Reference, wanted: Any) -> Policy:
    """What the volume says, else kubelet's default. Raises UserError."""
    if not wanted:
        return "Always" if reference.is_moving else "IfNotPresent"
    if wanted not in _POLICIES:
        raise UserError(f"imagePullPolicy is {wanted!r}", hint=f"write one of {', '.join(_POLICIES)}")
    policy: Policy = wanted
    return policy
