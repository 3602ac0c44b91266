"""Which networks a machine is in, and what its address in each is called. Pure.

`kubeovn/` gives the addresses and `kubevirt/` makes the cards; both read it here, from the machine alone, so that they agree without asking
each other. Names are Kube-OVN's: the provider of the pod network is `ovn`, that of a NetworkAttachmentDefinition is
`<name>.<namespace>.ovn`, and the IP object of a machine in it is called `<machine>.<namespace>.<provider>`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pilvi.api.resource import JsonObject, Key

__all__ = ["POD_NETWORK", "Attachment", "find_attachments", "ip_key", "split_ip_name"]

POD_NETWORK = "ovn"
"""Provider of the network that every machine is in when it names none."""

_DEFAULT = "default"


@dataclass(frozen=True)
class Attachment:
    """One interface of a machine, and the network of the same name.

    `definition` is the NetworkAttachmentDefinition behind the network, None for the pod network. `is_default` says that the machine's way
    out is here. `place` counts the interfaces, absent ones too: it stays while an instance lives.
    """

    name: str
    interface: JsonObject
    definition: Key | None
    is_default: bool
    place: int

    @property
    def is_absent(self) -> bool:
        """Whether the interface is to be unplugged, or was."""
        return self.interface.get("state") == "absent"

    @property
    def provider(self) -> str:
        """What Kube-OVN calls the network."""
        return POD_NETWORK if self.definition is None else f"{self.definition.name}.{self.definition.namespace}.{POD_NETWORK}"


def find_attachments(spec: JsonObject, namespace: str) -> tuple[Attachment, ...]:
    """The interfaces of a VirtualMachineInstanceSpec, in their order, absent ones too. `namespace` is the machine's.

    Networks without an interface have one that says nothing; an interface without a network is in the pod network.
    """
    devices = (spec.get("domain") or {}).get("devices") or {}
    networks = {network["name"]: network for network in spec.get("networks") or []}
    interfaces = {interface["name"]: interface for interface in devices.get("interfaces") or []}
    if not networks and not interfaces and devices.get("autoattachPodInterface") is not False:
        networks = {_DEFAULT: {"name": _DEFAULT, "pod": {}}}
    names = [*interfaces, *(name for name in networks if name not in interfaces)]
    return tuple(
        _attachment(networks.get(name) or {}, interfaces.get(name) or {"name": name}, namespace, place) for place, name in enumerate(names)
    )


def _attachment(network: JsonObject, interface: JsonObject, namespace: str, place: int) -> Attachment:
    multus = network.get("multus")
    if multus is None:
        return Attachment(interface["name"], interface, None, is_default=True, place=place)
    of, _, name = str(multus.get("networkName") or "").rpartition("/")
    return Attachment(interface["name"], interface, Key(of or namespace, name), is_default=bool(multus.get("default")), place=place)


def ip_key(machine: Key, provider: str = POD_NETWORK) -> Key:
    """The IP object of a machine in the network of this provider."""
    suffix = "" if provider == POD_NETWORK else f".{provider}"
    return Key("", f"{machine.name}.{machine.namespace}{suffix}")


def split_ip_name(name: str) -> tuple[Key, str]:
    """The machine and the provider that an IP object's name tells of; the machine's name is empty when it tells of none.

    Namespaces and NetworkAttachmentDefinitions have no dots. A machine may, but not in a namespace called `ovn`: so no two share a name.
    """
    parts = name.rsplit(".", 4)
    if len(parts) == 5 and parts[-1] == POD_NETWORK:
        return Key(parts[1], parts[0]), ".".join(parts[2:])
    machine, _, namespace = name.rpartition(".")
    return Key(namespace, machine), POD_NETWORK
