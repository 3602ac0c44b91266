"""Interfaces that come and go while the instance runs: from the template of a VirtualMachine to its VirtualMachineInstance. Pure.

As in KubeVirt (pkg/network/controllers/vm.go) an interface in another network than the first is plugged in when the template gets it, and
unplugged when the template says `state: absent`; `up` and `down` move the cable. Everything else about interfaces needs a restart. An
absent interface keeps its place in the instance until another one needs it, since the places are those of the cards on their bus.
"""

from __future__ import annotations

import copy
from collections.abc import Collection

from pilvi.api.resource import JsonObject
from pilvi.host.qemu.ports import NIC_PORTS
from pilvi.providers.attachments import find_attachments

__all__ = ["changed_interfaces", "only_interfaces", "plan_live_interfaces", "without_absent"]

_STATE = "state"
_ABSENT = "absent"


def plan_live_interfaces(wanted: JsonObject, template: JsonObject, vmi: JsonObject) -> JsonObject | None:
    """The interfaces and networks that the instance is to have now, as a part of its spec; None when it has them.

    `wanted` is the spec that it would be started with, `template` that of the VirtualMachine, which names the absent ones.
    """
    had_interfaces, had_networks = _interfaces(vmi["spec"]), _networks(vmi["spec"])
    scene = _Scene(copy.deepcopy(had_interfaces), copy.deepcopy(had_networks), vmi)
    networks = {network["name"]: network for network in _networks(wanted)}
    for interface in _interfaces(template):
        if interface.get(_STATE) == _ABSENT:
            scene.let_go(interface["name"])
    for interface in _interfaces(wanted):
        if (network := networks.get(interface["name"])) is not None:
            scene.have(interface, network)
    if scene.interfaces == had_interfaces and scene.networks == had_networks:
        return None
    return {"domain": {"devices": {"interfaces": scene.interfaces}}, "networks": scene.networks}


def changed_interfaces(wanted: JsonObject, spec: JsonObject) -> set[str]:
    """The names of interfaces that are otherwise than wanted, in a way that a restart alone can bring about.

    `wanted` is the spec that the instance would be started with, `spec` the one that it has, after `plan_live_interfaces`.
    """
    new, old = _described(wanted), _described(spec)
    return {name for name in (*new, *old) if new.get(name) != old.get(name) and not (name not in old and _can_come(new[name]))}


def without_absent(spec: JsonObject) -> JsonObject:
    """`spec` without the interfaces that are absent, and their networks: what an instance starts with."""
    present = {interface["name"] for interface in _interfaces(spec) if interface.get(_STATE) != _ABSENT}
    return spec if len(present) == len(_interfaces(spec)) else only_interfaces(spec, present)


def only_interfaces(spec: JsonObject, names: Collection[str]) -> JsonObject:
    """`spec` with these interfaces and their networks alone."""
    domain = spec.get("domain") or {}
    interfaces = [found for found in _interfaces(spec) if found["name"] in names]
    devices = {**(domain.get("devices") or {}), "interfaces": interfaces}
    return {**spec, "domain": {**domain, "devices": devices}, "networks": [found for found in _networks(spec) if found["name"] in names]}


class _Scene:
    """The interfaces of an instance while they are changed."""

    def __init__(self, interfaces: list[JsonObject], networks: list[JsonObject], vmi: JsonObject) -> None:
        self.interfaces = interfaces
        self.networks = networks
        self._namespace = vmi["metadata"].get("namespace") or ""
        self._plugged = {entry.get("name") for entry in (vmi.get("status") or {}).get("interfaces") or ()}

    def have(self, wanted: JsonObject, network: JsonObject) -> None:
        """Have an interface as it is wanted, as far as that can be without a restart, and now."""
        place = self._place_of(wanted["name"])
        if place is None:
            if _can_come((wanted, network)) and (free := self._find_place(network)) is not None:
                self._put(free, wanted, network)
        elif self.interfaces[place].get(_STATE) == _ABSENT and wanted["name"] not in self._plugged:
            self._put(place, wanted, network)
        elif self.interfaces[place].get(_STATE) != wanted.get(_STATE):
            self._set_state(place, wanted.get(_STATE))

    def let_go(self, name: str) -> None:
        """Have an interface be absent, if it is one that can go."""
        place, network = self._place_of(name), next((found for found in self.networks if found["name"] == name), {})
        if place is not None and _can_come((self.interfaces[place], network)):
            self._set_state(place, _ABSENT)

    def _place_of(self, name: str) -> int | None:
        return next((place for place, found in enumerate(self.interfaces) if found["name"] == name), None)

    def _set_state(self, place: int, state: str | None) -> None:
        rest = {name: value for name, value in self.interfaces[place].items() if name != _STATE}
        self.interfaces[place] = {**rest, _STATE: state} if state else rest

    def _find_place(self, network: JsonObject) -> int | None:
        """Where a new interface goes: its network's, when an absent one has it, else a new one, else that of any absent one."""
        free = [place for place, found in enumerate(self.interfaces) if found.get(_STATE) == _ABSENT and found["name"] not in self._plugged]
        by_name = {found["name"]: found for found in self.networks}
        for place, found in enumerate(self.interfaces):
            if self._provider(by_name.get(found["name"]) or {}) == self._provider(network):
                return place if place in free else None
        return len(self.interfaces) if len(self.interfaces) < NIC_PORTS else next(iter(free), None)

    def _put(self, place: int, interface: JsonObject, network: JsonObject) -> None:
        if place < len(self.interfaces):
            old = self.interfaces[place]["name"]
            self.networks = [found for found in self.networks if found["name"] != old]
        self.interfaces[place : place + 1] = [interface]
        self.networks = [*self.networks, network]

    def _provider(self, network: JsonObject) -> str:
        (attachment,) = find_attachments({"networks": [{"name": "", **network}]}, self._namespace)
        return attachment.provider


def _described(spec: JsonObject) -> dict[str, tuple[JsonObject, JsonObject]]:
    """Interface and network by name, but for the state; absent ones left out."""
    networks = {network["name"]: network for network in _networks(spec)}
    return {
        found["name"]: ({name: value for name, value in found.items() if name != _STATE}, networks.get(found["name"]) or {})
        for found in _interfaces(spec)
        if found.get(_STATE) != _ABSENT
    }


def _can_come(described: tuple[JsonObject, JsonObject]) -> bool:
    """Whether an interface can be plugged in and out: one in a network beside the first."""
    _, network = described
    multus = network.get("multus")
    return multus is not None and not multus.get("default")


def _interfaces(spec: JsonObject) -> list[JsonObject]:
    return ((spec.get("domain") or {}).get("devices") or {}).get("interfaces") or []


def _networks(spec: JsonObject) -> list[JsonObject]:
    return spec.get("networks") or []
