"""Asks the agent of a guest again and again what the instance's status shows of it, at KubeVirt's periods (virt-launcher's agent poller).

A guest may tell what it likes, so what is kept of it has bounds, and an address is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable
from ipaddress import ip_address

from pilvi.errors import MachineRefused, MachineUnreachable, TimedOut
from pilvi.host.qemu.agent import Agent
from pilvi.host.qemu.guestinfo import GuestInterface, GuestOs
from pilvi.providers.kubevirt.machines.guest import GuestFacts, GuestLink

__all__ = ["ask_guest"]

_MOST_LINKS = 64
_MOST_ADDRESSES = 32
_LONGEST_WORD = 256
_LOOPBACK = "lo"
_OS_FIELDS = {
    "id": "id",
    "name": "name",
    "version": "version",
    "version_id": "versionId",
    "pretty_name": "prettyName",
    "kernel_release": "kernelRelease",
    "kernel_version": "kernelVersion",
    "machine": "machine",
}


async def ask_guest(agent: Agent, is_running: Callable[[], bool], told: Callable[[GuestFacts], None]) -> None:
    """Call `told` with all that is known whenever that has changed. Ends only by cancellation; a guest that stands still is not asked."""
    facts = last = GuestFacts()
    due_s = [0.0] * len(_QUESTIONS)
    now_s = asyncio.get_running_loop().time
    while True:
        for number, (period_s, ask) in enumerate(_QUESTIONS):
            if now_s() < due_s[number] or not is_running():
                continue
            due_s[number] = now_s() + period_s
            with contextlib.suppress(MachineRefused, MachineUnreachable, TimedOut):
                facts = await ask(agent, facts)
        if facts != last:
            last = facts
            told(facts)
        await asyncio.sleep(_SHORTEST_S)


async def _ask_about(agent: Agent, facts: GuestFacts) -> GuestFacts:
    info = await agent.info()
    commands = frozenset(command.name for command in info.supported_commands if command.enabled)
    return dataclasses.replace(facts, version=info.version[:_LONGEST_WORD], commands=commands)


async def _ask_os(agent: Agent, facts: GuestFacts) -> GuestFacts:
    return dataclasses.replace(facts, os=_os(await agent.os()))


async def _ask_links(agent: Agent, facts: GuestFacts) -> GuestFacts:
    found = [link for link in await agent.interfaces() if link.name != _LOOPBACK]
    return dataclasses.replace(facts, links=tuple(_link(link) for link in found[:_MOST_LINKS]))


async def _ask_frozen(agent: Agent, facts: GuestFacts) -> GuestFacts:
    return dataclasses.replace(facts, is_frozen=await agent.is_frozen())


_SHORTEST_S = 5.0
_QUESTIONS: tuple[tuple[float, Callable[[Agent, GuestFacts], Awaitable[GuestFacts]]], ...] = (
    (300.0, _ask_about),
    (10.0, _ask_os),
    (10.0, _ask_links),
    (_SHORTEST_S, _ask_frozen),
)


def _os(answer: GuestOs) -> dict[str, str]:
    found = {name: getattr(answer, field)[:_LONGEST_WORD] for field, name in _OS_FIELDS.items()}
    return {name: value for name, value in found.items() if value}


def _link(answer: GuestInterface) -> GuestLink:
    addresses = [address.ip_address for address in answer.ip_addresses[:_MOST_ADDRESSES] if _is_address(address.ip_address)]
    return GuestLink(answer.name[:_LONGEST_WORD], answer.hardware_address[:_LONGEST_WORD].lower(), tuple(addresses))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
