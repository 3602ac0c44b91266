"""NetworkAttachmentDefinitions that are served, and what the others are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.api.cni import NetworkAttachmentDefinition
from pilvi.providers.attachments import find_attachments
from pilvi.providers.kubeovn.definition import check_definition, find_fault, find_unused

GOOD = {"cniVersion": "0.3.1", "type": "kube-ovn", "server_socket": "/run/x.sock", "provider": "back.team.ovn"}


def definition(config: Any) -> JsonObject:
    text = config if isinstance(config, str) else json.dumps(config)
    return NetworkAttachmentDefinition.RESOURCE.new(Key("team", "back"), spec={"config": text})


@pytest.mark.parametrize("config", [GOOD, {"name": "x", "plugins": [GOOD]}])
def test_kube_ovns_own_plug_in_is_served(config: Any) -> None:
    assert find_fault(definition(config)) is None
    assert find_unused(definition(config)) == []


@pytest.mark.parametrize(
    ("config", "reason", "word"),
    [
        ({"type": "macvlan", "master": "eth1"}, "TypeNotSupported", "back.team.ovn"),
        ({"type": "bridge", "ipam": {"type": "kube-ovn"}}, "TypeNotSupported", "bridge"),
        ({**GOOD, "provider": "front.team.ovn"}, "InvalidProvider", "has to be back.team.ovn"),
        ({"type": "kube-ovn"}, "InvalidProvider", "None"),
        ("{type: kube-ovn}", "InvalidConfig", "not JSON"),
        ("", "InvalidConfig", "not JSON"),
        ("[]", "InvalidConfig", "no JSON object"),
        ({"plugins": [GOOD, {"type": "tuning"}]}, "InvalidConfig", "2 entries"),
        ({"plugins": ["kube-ovn"]}, "InvalidConfig", "no JSON object"),
    ],
)
def test_others_are_told_what_to_write(config: Any, reason: str, word: str) -> None:
    fault = find_fault(definition(config))
    assert fault is not None
    assert fault.reason == reason
    assert word in fault.message


def test_what_has_no_effect_is_named() -> None:
    assert find_unused(definition({**GOOD, "mtu": 1400, "ipam": {}})) == ["ipam", "mtu"]


def test_a_machine_is_told_which_network_is_wrong() -> None:
    (attachment,) = find_attachments({"networks": [{"name": "second", "multus": {"networkName": "back"}}]}, "team")
    missing = check_definition(attachment, None)
    assert missing is not None
    assert "network second: there is no NetworkAttachmentDefinition team/back; create it" in missing.message
    wrong = check_definition(attachment, definition({"type": "sriov"}))
    assert wrong is not None
    assert wrong.message.startswith("network second: NetworkAttachmentDefinition team/back: spec.config: type 'sriov'")
    assert check_definition(attachment, definition(GOOD)) is None
    (pod,) = find_attachments({}, "team")
    assert check_definition(pod, None) is None
