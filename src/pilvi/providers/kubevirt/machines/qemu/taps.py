"""The tap devices of a machine: one for each of its interfaces, a port of the Subnet's bridge in the namespace of its Vpc."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from pilvi.errors import DriverError
from pilvi.host.netns import list_netns
from pilvi.lib.together import together
from pilvi.providers.attachments import find_attachments
from pilvi.providers.kubevirt.machines.backend import MachineLeg, MachineSpec, NetworkNotReady
from pilvi.providers.names import machine_port, port_in_slot, vpc_netns_prefix

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["absent_ports", "ensure_taps", "remove_taps"]


async def ensure_taps(spec: MachineSpec, slot: str) -> None:
    """Have a tap for each leg, for the process in that slot. Raises NetworkNotReady, UserError on a host without tap devices."""
    await together(*(_ensure_tap(spec, slot, leg) for leg in spec.legs))


async def remove_taps(cloud: Cloud, uid: str, slot: str, ports: Collection[str] | None = None) -> None:
    """Remove these taps of the machine in that slot, None: all, in whichever Vpc: the Subnet may be gone, or another one by now."""
    from pilvi.host.network import delete_link, list_links  # noqa: PLC0415 (half a second of import that a CLI must not pay)

    if ports is not None and not ports:
        return
    for netns in list_netns(vpc_netns_prefix(cloud)):
        for link in await list_links(netns, port_in_slot(machine_port(uid), slot)):
            if ports is None or link.name in ports:
                await delete_link(netns, link.name)


def absent_ports(spec: MachineSpec, slot: str, cards: tuple[str, ...] | None) -> set[str]:
    """The taps of interfaces that are absent, and whose card the guest has let go of. Pure."""
    if cards is None:
        return set()
    attachments = find_attachments(spec.instance, spec.namespace)
    used = {leg.provider for leg in spec.legs} | {attachment.provider for attachment in attachments if attachment.name in cards}
    absent = {attachment.provider for attachment in attachments if attachment.is_absent} - used
    return {port_in_slot(machine_port(spec.uid, provider), slot) for provider in absent}


async def _ensure_tap(spec: MachineSpec, slot: str, leg: MachineLeg) -> None:
    from pilvi.host.network import Tap, ensure_tap  # noqa: PLC0415 (as above)

    try:
        await ensure_tap(
            Tap(netns=leg.netns, name=port_in_slot(machine_port(spec.uid, leg.provider), slot), master=leg.bridge, mtu=leg.mtu)
        )
    except (FileNotFoundError, DriverError) as e:
        raise NetworkNotReady(f"machine {spec.namespace}/{spec.name} cannot be attached to bridge {leg.bridge} yet") from e
