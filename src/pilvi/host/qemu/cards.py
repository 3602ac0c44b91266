"""Network cards, each on a tap device that the process is handed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pilvi.host.qemu.descriptors import Descriptors
from pilvi.host.qemu.ports import NIC_PORTS, assign_ports, nic_port
from pilvi.host.qemu.spec import Nic, QemuSpec
from pilvi.host.qemu.words import Words, given, json_option
from pilvi.host.units import OpenFile

__all__ = ["card_words", "nic_device", "nic_properties"]

_MODELS = {"virtio": "virtio-net-pci"}
_VHOST = Path("/dev/vhost-net")


def nic_device(nic: str) -> str:
    """The id of a card, which is also what its link is called."""
    return f"nic-{nic}"


def card_words(spec: QemuSpec, descriptors: Descriptors) -> Iterator[Words]:
    """All cards of a machine. Raises UserError when there are more than it has ports."""
    ports = assign_ports([nic.port for nic in spec.nics], NIC_PORTS, "network cards", "remove an interface")
    for nic, port in zip(spec.nics, ports, strict=True):
        backend: dict[str, Any] = {"type": "tap", "id": f"net-{nic.name}", "fd": str(descriptors.number(nic.tap))}
        if nic.vhost:
            backend |= {"vhost": True, "vhostfd": str(descriptors.number(OpenFile(path=_VHOST, writable=True)))}
        yield json_option("-netdev", backend)
        yield json_option("-device", nic_properties(nic, port))


def nic_properties(nic: Nic, port: int) -> dict[str, Any]:
    """The device of a card, as the command line and `device_add` take it."""
    return given(
        driver=_MODELS.get(nic.model, nic.model),
        id=nic_device(nic.name),
        netdev=f"net-{nic.name}",
        mac=nic.mac,
        bus=nic_port(port),
        bootindex=nic.boot_index,
        **({"acpi-index": nic.acpi_index} if nic.acpi_index is not None else {}),
        # Only a card that is booted from needs its option ROM, whose file a host may lack.
        romfile=None if nic.boot_index is not None else "",
        host_mtu=nic.mtu if nic.model == "virtio" else None,
    )
