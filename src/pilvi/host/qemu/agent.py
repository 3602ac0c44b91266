"""Talk with the agent in a guest (qemu-guest-agent) through its channel.

The guest is not trusted: an answer may be missing, late, somebody else's, too long or no answer at all. Each command has a
connection of its own that begins with a number to be repeated (`guest-sync-delimited`), so that nothing left over from an earlier
one is taken for its answer, and a deadline: a guest without an agent says nothing.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pilvi.errors import MachineRefused, MachineUnreachable
from pilvi.host.qemu import guestinfo
from pilvi.lib.deadline import Deadline, within

__all__ = ["Agent", "ExecResult"]

T = TypeVar("T")

_TIMEOUT_S = 5.0
_FREEZE_TIMEOUT_S = 60.0
_LONGEST_ANSWER_BYTES = 8 << 20
_DELIMITER = b"\xff"
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a program in the guest ended: its exit code, or the signal that ended it, and what it wrote."""

    code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    is_truncated: bool


class Agent:
    """The agent of the machine `name`, behind the socket `path`.

    Every method raises TimedOut when nobody answers in time, MachineUnreachable when there is no machine, and MachineRefused when the agent
    refuses, does not know the command, or answers something that is not understood.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        self._turn = asyncio.Lock()  # the channel has one line

    async def execute(self, command: str, arguments: dict[str, Any] | None = None, *, timeout_s: float = _TIMEOUT_S) -> Any:
        """The agent's answer to any command, as it came. `timeout_s` counts from when it is this command's turn."""
        async with self._turn:
            return await within(timeout_s, self._ask(command, arguments), f"the agent in the guest of machine {self.name}")

    async def ping(self, *, timeout_s: float = _TIMEOUT_S) -> None:
        """Return when the agent answers."""
        await self.execute("guest-ping", timeout_s=timeout_s)

    async def info(self) -> guestinfo.AgentInfo:
        """Version of the agent and the commands it knows."""
        return await self._get("guest-info", guestinfo.AgentInfo)

    async def os(self) -> guestinfo.GuestOs:
        """The operating system."""
        return await self._get("guest-get-osinfo", guestinfo.GuestOs)

    async def hostname(self) -> str:
        """The guest's own name."""
        return (await self._get("guest-get-host-name", guestinfo.GuestHostname)).host_name

    async def timezone(self) -> guestinfo.GuestTimezone:
        """The time zone."""
        return await self._get("guest-get-timezone", guestinfo.GuestTimezone)

    async def interfaces(self) -> list[guestinfo.GuestInterface]:
        """Network interfaces with their addresses, the loopback included."""
        return await self._get("guest-network-get-interfaces", list[guestinfo.GuestInterface])

    async def users(self) -> list[guestinfo.GuestUser]:
        """Who is logged in."""
        return await self._get("guest-get-users", list[guestinfo.GuestUser])

    async def filesystems(self) -> list[guestinfo.GuestFilesystem]:
        """What is mounted, and on which disks."""
        return await self._get("guest-get-fsinfo", list[guestinfo.GuestFilesystem])

    async def freeze(self, *, timeout_s: float = _FREEZE_TIMEOUT_S) -> int:
        """Have the guest write all that is dirty and hold further writes; returns how many file systems.

        After TimedOut it may still come to be frozen: `thaw` in any case.
        """
        return self._convert("guest-fsfreeze-freeze", await self.execute("guest-fsfreeze-freeze", timeout_s=timeout_s), int)

    async def thaw(self, *, timeout_s: float = _FREEZE_TIMEOUT_S) -> int:
        """Let the guest write again; returns how many file systems. Those that are not frozen are fine."""
        return self._convert("guest-fsfreeze-thaw", await self.execute("guest-fsfreeze-thaw", timeout_s=timeout_s), int)

    async def is_frozen(self) -> bool:
        """Whether file systems are frozen, as far as the agent knows."""
        return bool(await self.execute("guest-fsfreeze-status") == "frozen")

    async def run(self, argv: Sequence[str], *, timeout_s: float, input: bytes | None = None) -> ExecResult:
        """Run a program in the guest and wait for its end. After TimedOut it goes on there."""
        deadline = Deadline(timeout_s)
        arguments: dict[str, Any] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        if input is not None:
            arguments["input-data"] = base64.b64encode(input).decode()
        answer = await self.execute("guest-exec", arguments, timeout_s=deadline.left_s)
        pid = self._convert("guest-exec", answer, guestinfo.GuestProcess).pid

        async def end() -> guestinfo.GuestExit:
            while True:
                found = await self.execute("guest-exec-status", {"pid": pid}, timeout_s=deadline.left_s)
                state = self._convert("guest-exec-status", found, guestinfo.GuestExit)
                if state.exited:
                    return state
                await asyncio.sleep(_POLL_S)

        state = await within(deadline.left_s, end(), f"{argv[0]} to end in the guest of machine {self.name}")
        return ExecResult(
            code=state.exitcode,
            signal=state.signal,
            stdout=self._decoded("guest-exec-status", state.out_data),
            stderr=self._decoded("guest-exec-status", state.err_data),
            is_truncated=state.out_truncated or state.err_truncated,
        )

    async def set_password(self, user: str, password: str, *, is_hashed: bool = False) -> None:
        """Give a user of the guest a password."""
        arguments = {"username": user, "password": base64.b64encode(password.encode()).decode(), "crypted": is_hashed}
        await self.execute("guest-set-user-password", arguments)

    async def set_ssh_keys(self, user: str, keys: Sequence[str]) -> None:
        """Make these the keys that may log in as `user`, and no other ones."""
        await self.execute("guest-ssh-add-authorized-keys", {"username": user, "keys": list(keys), "reset": True})

    async def ssh_keys(self, user: str) -> list[str]:
        """The keys that may log in as `user`."""
        answer = await self.execute("guest-ssh-get-authorized-keys", {"username": user})
        return self._convert("guest-ssh-get-authorized-keys", answer, guestinfo.GuestKeys).keys

    async def reboot(self) -> None:
        """Ask the guest to reboot. The agent does not answer that, so whether it does is for others to see."""
        async with self._turn:
            await within(
                _TIMEOUT_S,
                self._ask("guest-shutdown", {"mode": "reboot"}, is_answered=False),
                f"the agent in the guest of machine {self.name}",
            )

    async def _get(self, command: str, type_: type[T]) -> T:
        return self._convert(command, await self.execute(command), type_)

    def _convert(self, command: str, answer: Any, type_: type[T]) -> T:
        try:
            return msgspec.convert(answer, type_)
        except msgspec.ValidationError as e:
            raise MachineRefused(self.name, command, "its answer is not understood") from e

    def _decoded(self, command: str, text: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except ValueError as e:
            raise MachineRefused(self.name, command, "its answer is not understood") from e

    async def _ask(self, command: str, arguments: dict[str, Any] | None, *, is_answered: bool = True) -> Any:
        async with self._connection(command) as (reader, writer):
            number = secrets.randbelow(1 << 31)
            # The first byte ends whatever the agent has half read.
            writer.write(_DELIMITER + _line("guest-sync-delimited", {"id": number}))
            while True:
                await reader.readuntil(_DELIMITER)
                line = await reader.readline()
                if _decode(line.rpartition(_DELIMITER)[2]).get("return") == number:
                    break
            writer.write(_line(command, arguments))
            await writer.drain()
            if not is_answered:
                return None
            answer = _decode(await reader.readline())
        if "return" in answer:
            return answer["return"]
        error = answer.get("error")
        reason = error.get("desc") if isinstance(error, dict) else None
        raise MachineRefused(self.name, command, str(reason or "its answer is not understood"))

    @asynccontextmanager
    async def _connection(self, command: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        writer = None
        try:
            reader, writer = await asyncio.open_unix_connection(self._path, limit=_LONGEST_ANSWER_BYTES)
            yield reader, writer
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as e:
            raise MachineRefused(self.name, command, "its answer is cut off or too long") from e
        except OSError as e:
            raise MachineUnreachable(f"the agent's channel of machine {self.name} cannot be reached") from e
        finally:
            if writer is not None:
                writer.transport.abort()


def _line(command: str, arguments: dict[str, Any] | None) -> bytes:
    return msgspec.json.encode({"execute": command, **({"arguments": arguments} if arguments else {})}) + b"\n"


def _decode(line: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
