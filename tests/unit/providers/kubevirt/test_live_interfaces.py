"""Interfaces that come and go while the instance runs."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.virtualmachine.interfaces import changed_interfaces, plan_live_interfaces, without_absent


def spec(*names: str, **more: dict[str, Any]) -> JsonObject:
    """`a` is the pod network, others are of definitions of their names; `name!` is absent, `name-` down, `name@x` in the network x."""
    interfaces, networks = [], []
    for word in names:
        name, _, network = word.rstrip("!-").partition("@")
        state = {"state": "absent"} if word.endswith("!") else {"state": "down"} if word.endswith("-") else {}
        interfaces.append({"name": name, "bridge": {}, **state, **more.get(name, {})})
        networks.append({"name": name, "pod": {}} if name == "a" else {"name": name, "multus": {"networkName": network or name}})
    return {"domain": {"devices": {"interfaces": interfaces}}, "networks": networks}


def instance(running: JsonObject, *plugged: str) -> JsonObject:
    return {"metadata": {"namespace": "team"}, "spec": running, "status": {"interfaces": [{"name": name} for name in plugged]}}


@pytest.mark.parametrize(
    ("template", "vmi", "then"),
    [
        (spec("a"), instance(spec("a"), "a"), None),
        (spec("a", "b"), instance(spec("a"), "a"), spec("a", "b")),
        (spec("a", "b!"), instance(spec("a"), "a"), None),
        (spec("a", "b!"), instance(spec("a", "b"), "a", "b"), spec("a", "b!")),
        (spec("a", "b-"), instance(spec("a", "b"), "a", "b"), spec("a", "b-")),
        (spec("a-"), instance(spec("a"), "a"), spec("a-")),
        (spec("a"), instance(spec("a-"), "a"), spec("a")),
        # One that is gone comes again at its place; one that is still going is waited for.
        (spec("a", "b", "c"), instance(spec("a", "b!", "c"), "a", "c"), spec("a", "b", "c")),
        (spec("a", "b@x"), instance(spec("a", "b@x!"), "a", "b"), spec("a", "b@x")),
        # The first interface neither comes nor goes, and what is left out without `absent` stays until a restart.
        (spec("a!"), instance(spec("a"), "a"), None),
        (spec("a"), instance(spec("a", "b"), "a", "b"), None),
        # One network has one interface: the new one waits for the old one, then takes its place.
        (spec("a", "n@x"), instance(spec("a", "o@x"), "a", "o"), None),
        (spec("a", "n@x"), instance(spec("a", "o@x!"), "a", "o"), None),
        (spec("a", "n@x"), instance(spec("a", "o@x!"), "a"), spec("a", "n@x")),
        (spec("a", "n@team/x"), instance(spec("a", "o@x!"), "a"), spec("a", "n@team/x")),
        # All places taken: that of an absent one.
        (spec("a", "c", "d", "e"), instance(spec("a", "b!", "c", "d"), "a", "c", "d"), spec("a", "e", "c", "d")),
        (spec("a", "b", "c", "d", "e"), instance(spec("a", "b", "c", "d"), "a", "b", "c", "d"), None),
    ],
)
def test_what_the_instance_is_to_have(template: JsonObject, vmi: JsonObject, then: JsonObject | None) -> None:
    found = plan_live_interfaces(without_absent(template), template, vmi)
    if then is None:
        assert found is None
        return
    assert found is not None
    assert found["domain"] == then["domain"]
    assert sorted(found["networks"], key=str) == sorted(then["networks"], key=str)
    settled = {**vmi, "spec": {**vmi["spec"], **found}}
    assert plan_live_interfaces(without_absent(template), template, settled) is None, "and nothing more"


@pytest.mark.parametrize(
    ("template", "running", "name"),
    [
        (spec("a"), spec("a"), None),
        (spec("a", "b"), spec("a"), None),
        (spec("a-", "b!"), spec("a", "b"), "b"),
        (spec("a-", "b!"), spec("a", "b!"), None),
        (spec("a"), spec("a", "b"), "b"),
        (spec("a"), spec("a", "b!"), None),
        (spec("a", a={"macAddress": "02:00:00:00:00:01"}), spec("a"), "a"),
        (spec("a", "b@x"), spec("a", "b@y"), "b"),
    ],
)
def test_what_a_restart_alone_brings_about(template: JsonObject, running: JsonObject, name: str | None) -> None:
    assert changed_interfaces(without_absent(template), running) == ({name} if name else set())


def test_an_instance_starts_without_absent_interfaces() -> None:
    assert without_absent(spec("a", "b!", "c")) == spec("a", "c")
    assert without_absent({}) == {}
