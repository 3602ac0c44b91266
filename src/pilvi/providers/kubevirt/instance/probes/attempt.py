"""One try of a probe: at the guest's agent, or at a port of the machine from inside its Vpc."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address

import aiohttp

from pilvi.errors import PilviError, format_chain
from pilvi.host.netns import in_netns
from pilvi.lib.deadline import within
from pilvi.providers.kubevirt.instance.probes.probe import AskHttp, AskPort, Ping, Probe, Run
from pilvi.providers.kubevirt.machines.control import MachineControl

__all__ = ["Target", "attempt"]

_MOST_WORDS = 200
_USER_AGENT = "kube-probe/1"  # what servers know by name


@dataclass(frozen=True)
class Target:
    """The machine: its UID, its control, its address and the network namespace to reach it from; None when it is in no network."""

    uid: str
    control: MachineControl
    netns: str | None
    address: IPv4Address | None


async def attempt(probe: Probe, target: Target) -> str | None:
    """None when the answer is the right one, else in some words what was seen instead. Takes `probe.timeout_s` at most."""
    try:
        return await within(probe.timeout_s, _ask(probe, target), _name(probe))
    except PilviError as e:
        return format_chain(e)[:_MOST_WORDS]
    except (OSError, aiohttp.ClientError, ValueError) as e:  # the last for headers and addresses that are none
        number = e.errno if isinstance(e, OSError) else None
        return f"{_name(probe)}: {os.strerror(number) if number else str(e) or type(e).__name__}"[:_MOST_WORDS]


async def _ask(probe: Probe, target: Target) -> str | None:
    match probe.action:
        case Run(argv=argv):
            ended = await target.control.run(target.uid, argv, probe.timeout_s)
            words = (f"{argv[0]} ended with {_ending(ended.code)}", ended.output.strip())
            return None if ended.code == 0 else ": ".join(word for word in words if word)[:_MOST_WORDS]
        case Ping():
            await target.control.agent(target.uid, "guest-ping")
            return None
        case AskPort() | AskHttp() if target.address is None:
            return f"{_name(probe)}: the machine is in no network"
        case AskPort(port=port):
            await _connect(target, port)
            return None
        case AskHttp():
            return await _get(probe.action, target)


async def _connect(target: Target, port: int) -> None:
    connection = _new_socket(target.netns)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (str(target.address), port))
    finally:
        connection.close()


async def _get(action: AskHttp, target: Target) -> str | None:
    connector = aiohttp.TCPConnector(ssl=False, force_close=True, socket_factory=lambda _info: _new_socket(target.netns))
    url = f"{action.scheme}://{target.address}:{action.port}{action.path}"
    async with (
        aiohttp.ClientSession(connector=connector, headers={"User-Agent": _USER_AGENT}) as session,
        # Redirects are not followed: a machine must not send the engine elsewhere.
        session.get(url, headers=list(action.headers), allow_redirects=False) as answer,
    ):
        return None if 200 <= answer.status < 400 else f"{url} answers with status {answer.status}"


def _new_socket(netns: str | None) -> socket.socket:
    """A socket stays in the namespace where it was made."""
    with in_netns(netns):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    return made


def _name(probe: Probe) -> str:
    match probe.action:
        case Run(argv=argv):
            return f"{argv[0]} to end in the guest"
        case Ping():
            return "the guest's agent to answer"
        case AskPort(port=port) | AskHttp(port=port):
            return f"port {port} of the machine to answer"


def _ending(code: int | None) -> str:
    return f"exit code {code}" if code is not None else "a signal"
