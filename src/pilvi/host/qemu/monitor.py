"""Talk with a running QEMU (QMP, docs/interop/qmp-spec.rst), whoever has started it.

One connection for each machine, owned by the task that runs `Monitor.run`; it is dialled again whenever it breaks. QEMU may hang, be
stopped or be gone: every command has a deadline, and what it leaves unanswered is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from qemu.qmp import ConnectError, ExecInterruptedError, ExecuteError, Message, QMPClient, QMPError, Runstate, StateError
from qemu.qmp.qmp_client import BadReplyError

from pilvi.errors import MachineRefused, MachineUnreachable, TimedOut, format_chain
from pilvi.host.qemu.status import CONNECTED, DISCONNECTED, Event, GuestStatus
from pilvi.lib.backoff import Backoff
from pilvi.lib.deadline import within

__all__ = ["Monitor"]

log = logging.getLogger(__name__)
# It logs as errors what it also raises, and every message.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)

_COMMAND_TIMEOUT_S = 10.0
_DIAL_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 2.0
# So many small messages fit into a socket that nobody reads.
_MOST_UNANSWERED = 32


class Monitor:
    """The monitor at the socket `path` of the machine `name`; `on_event` is called in the loop and must not wait.

    Events are lost while there is no connection: after `CONNECTED` the state has to be read.
    """

    def __init__(self, name: str, path: Path, on_event: Callable[[Event], None]) -> None:
        self.name = name
        self._path = path
        self._on_event = on_event
        self._client: QMPClient | None = None
        self._socket: socket.socket | None = None
        self._connected = asyncio.Event()
        self._why_not = "nobody has called it yet"
        self._passing = asyncio.Lock()
        self._unanswered = 0

    @property
    def is_connected(self) -> bool:
        """Whether commands would be sent now."""
        return self._connected.is_set()

    async def run(self) -> None:
        """Keep the connection: dial, pass events on, dial again. Ends only by cancellation, and QEMU does not notice that."""
        backoff = Backoff(0.02, 2.0)
        while True:
            try:
                async with self._session() as client:
                    backoff.reset()
                    await self._ended(client)
            except (MachineUnreachable, TimedOut) as e:
                self._why_not = format_chain(e)
            else:
                self._why_not = "it closed the connection"
            await asyncio.sleep(backoff.next_s())

    async def execute(self, command: str, arguments: dict[str, Any] | None = None, *, timeout_s: float = _COMMAND_TIMEOUT_S) -> Any:
        """QEMU's answer; a connection that is being made is waited for.

        Raises MachineRefused with QEMU's words, TimedOut when it does not answer, MachineUnreachable when it is not there or the
        connection breaks; after these two the command may yet take effect.
        """
        try:
            answer = await within(timeout_s, self._execute(command, arguments or {}), f"QEMU of machine {self.name} to answer {command}")
        except TimedOut as e:
            if not self.is_connected:
                raise MachineUnreachable(f"QEMU of machine {self.name} cannot be reached: {self._why_not}") from e
            self._unanswered += 1
            if self._unanswered >= _MOST_UNANSWERED:
                self._hang_up()
            raise
        self._unanswered = 0
        return answer

    async def query_status(self) -> GuestStatus:
        """What the guest does. Raises as `execute`."""
        answer = await self.execute("query-status")
        try:
            return GuestStatus(answer["status"])
        except (KeyError, TypeError, ValueError) as e:
            raise MachineRefused(self.name, "query-status", f"{answer!r} is not understood") from e

    async def cont(self) -> None:
        """Let the guest run (on). Raises as `execute`; refused when the guest has ended."""
        await self.execute("cont")

    async def stop(self) -> None:
        """Have the guest pause, between two instructions. Raises as `execute`."""
        await self.execute("stop")

    async def power_down(self) -> None:
        """Press the power button; what comes of it is the guest's. Raises as `execute`."""
        await self.execute("system_powerdown")

    async def reset(self) -> None:
        """Press the reset button. Raises as `execute`."""
        await self.execute("system_reset")

    async def wake_up(self) -> None:
        """Wake a guest that is suspended to memory. Raises as `execute`."""
        await self.execute("system_wakeup")

    async def quit(self) -> None:
        """End QEMU, without asking the guest. A QEMU that is gone is fine. Raises TimedOut."""
        with contextlib.suppress(MachineUnreachable):  # it may be gone before its answer is read
            await self.execute("quit")

    async def set_link(self, device: str, *, is_up: bool) -> None:
        """Plug the cable of a network card in or out; `device` is its id (`cards.nic_device`). Raises as `execute`."""
        await self.execute("set_link", {"name": device, "up": is_up})

    async def machine_type(self) -> str:
        """The concrete type of the machine, such as `pc-q35-7.2`. Raises as `execute` does."""
        return str(await self.execute("qom-get", {"path": "/machine", "property": "type"})).removesuffix("-machine")

    async def is_agent_there(self) -> bool:
        """Whether a program in the guest listens at the agent's channel. Raises as `execute`."""
        channels = await self.execute("query-chardev")
        return any(channel.get("label") == "agent" and channel.get("frontend-open") for channel in channels)

    async def add_file(self, descriptor: int, label: str) -> str:
        """Hand an open file over; returns the path under which QEMU opens it. The caller closes its own descriptor.

        The file stays with QEMU until its set is removed (`hotplug.close_files`). Raises as `execute`.
        """
        answer = await self._pass(descriptor, "add-fd", {"opaque": label})
        return f"/dev/fdset/{answer['fdset-id']}"

    async def add_descriptor(self, descriptor: int, name: str) -> None:
        """Hand a descriptor over under a name, as `netdev_add` wants it. Raises as `execute`."""
        await self._pass(descriptor, "getfd", {"fdname": name})

    async def remove_device(self, device: str, *, timeout_s: float = 30.0) -> None:
        """Take a device out of the running guest; returns when the guest has let go of it.

        One that is not there is fine. Raises TimedOut when the guest does not answer (it may not have booted yet: to be asked again),
        MachineRefused when QEMU cannot or the guest refused it.
        """
        with self._client_now().listener(("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR")) as events:
            try:
                await self.execute("device_del", {"id": device})
            except MachineRefused as e:
                if "not found" in e.reason:
                    return
                if "in the process of unplug" not in e.reason:
                    raise
            await within(timeout_s, self._removed(events, device), f"the guest of machine {self.name} to let go of {device}")

    async def _removed(self, events: AsyncIterator[Message], device: str) -> None:
        async for event in events:
            data = event.get("data")
            if not isinstance(data, dict) or data.get("device") != device:
                continue
            if event["event"] == "DEVICE_UNPLUG_GUEST_ERROR":
                raise MachineRefused(self.name, "device_del", "the guest does not let go of it")
            return

    async def _execute(self, command: str, arguments: dict[str, Any]) -> Any:
        await self._connected.wait()
        try:
            return await self._client_now().execute(command, arguments)
        except ExecuteError as e:
            raise MachineRefused(self.name, command, e.error.error.desc) from e
        except BadReplyError as e:
            raise MachineRefused(self.name, command, "its answer is not understood") from e
        except (ExecInterruptedError, StateError) as e:
            raise MachineUnreachable(f"QEMU of machine {self.name} went away before it answered {command}") from e

    async def _pass(self, descriptor: int, command: str, arguments: dict[str, Any]) -> Any:
        # QEMU takes the descriptor that came last; two commands must not take each other's.
        async with self._passing:
            await within(_DIAL_TIMEOUT_S, self._connected.wait(), f"QEMU of machine {self.name}")
            try:
                self._client_now().send_fd_scm(descriptor)
            except OSError as e:
                raise MachineUnreachable(f"QEMU of machine {self.name} does not read") from e
            return await self.execute(command, arguments)

    def _client_now(self) -> QMPClient:
        if self._client is None:
            raise MachineUnreachable(f"QEMU of machine {self.name} cannot be reached: {self._why_not}")
        return self._client

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[QMPClient]:
        client = QMPClient(self.name)
        # Said to every event, and none is kept: the library would keep all that ever came.
        client.events.event_filter = self._pass_on
        connection = await self._dial()
        try:
            try:
                await within(_DIAL_TIMEOUT_S, client.connect(connection), "its greeting")
            except ConnectError as e:
                raise MachineUnreachable("it does not speak QMP") from e
            self._client, self._socket, self._unanswered = client, connection, 0
            self._connected.set()
            self._on_event(Event(CONNECTED))
            yield client
        finally:
            was_connected = self._connected.is_set()
            self._connected.clear()
            self._hang_up()
            self._client = self._socket = None
            await self._close(client, connection)
            if was_connected:
                self._on_event(Event(DISCONNECTED))

    async def _dial(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await within(_DIAL_TIMEOUT_S, asyncio.get_running_loop().sock_connect(connection, str(self._path)), "its socket")
        except OSError as e:
            connection.close()
            raise MachineUnreachable(str(self._path)) from e
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    async def _ended(client: QMPClient) -> None:
        while client.runstate is Runstate.RUNNING:
            await client.runstate_changed()

    def _hang_up(self) -> None:
        if self._socket is not None:
            # Whoever is in the middle of reading or writing fails at once, so that nothing waits for a peer that does not read.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    async def _close(self, client: QMPClient, connection: socket.socket) -> None:
        # Before it has seen that nobody is there any more, the library would wait until all is sent.
        with contextlib.suppress(TimedOut):
            await within(_CLOSE_TIMEOUT_S, self._ended(client), "the end of a connection to be seen")
        if client.runstate is not Runstate.IDLE:
            # What broke the connection comes out again here, and has been told.
            with contextlib.suppress(QMPError, EOFError, OSError, TimedOut):
                await within(_CLOSE_TIMEOUT_S, client.disconnect(), "the end of a connection")
        connection.close()

    def _pass_on(self, message: Message) -> bool:
        data = message.get("data")
        self._on_event(Event(str(message["event"]), data if isinstance(data, dict) else {}))
        return False
