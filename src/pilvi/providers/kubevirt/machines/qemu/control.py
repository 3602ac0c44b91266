"""What people do to a machine under QEMU while it runs: by QMP, its sockets, and the agent in its guest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilvi.api.resource import JsonObject
from pilvi.errors import MachineRefused, MachineUnreachable, format_chain
from pilvi.host.qemu.agent import Agent
from pilvi.lib.disk import on_disk
from pilvi.lib.files import open_below
from pilvi.providers.kubevirt.machines.control import MachineControl, MachineRefusal
from pilvi.providers.kubevirt.machines.guest import GuestExit
from pilvi.providers.kubevirt.machines.qemu.slots import Slots, slot_sockets

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.host.qemu.spec import Sockets
    from pilvi.providers.kubevirt.machines.qemu.guests import Guests

__all__ = ["QemuControl"]

_LARGEST_PICTURE = 64 << 20
_PICTURE = "screen.png"


class QemuControl(MachineControl):
    """See `MachineControl`. `guests` are those that the backend follows."""

    def __init__(self, cloud: Cloud, guests: Guests, slots: Slots) -> None:
        self._cloud = cloud
        self._guests = guests
        self._slots = slots

    def console(self, uid: str) -> Path:
        """See `MachineControl`."""
        return self._socket(self._sockets(uid).serial, "serial console", "autoattachSerialConsole")

    def screen(self, uid: str) -> Path:
        """See `MachineControl`."""
        return self._socket(self._sockets(uid).screen, "screen", "autoattachGraphicsDevice")

    async def screenshot(self, uid: str) -> bytes:
        """See `MachineControl`."""
        self.screen(uid)
        folder = self._sockets(uid).folder
        try:
            with _refusals():
                await self._guests.get(uid).execute("screendump", {"filename": str(folder / _PICTURE), "format": "png"})
            return await on_disk(_read_picture, folder)
        finally:
            (folder / _PICTURE).unlink(missing_ok=True)

    async def pause(self, uid: str) -> None:
        """See `MachineControl`."""
        with _refusals():
            await self._guests.get(uid).stop()

    async def resume(self, uid: str) -> None:
        """See `MachineControl`."""
        with _refusals():
            await self._guests.get(uid).cont()

    async def reset(self, uid: str) -> None:
        """See `MachineControl`."""
        with _refusals():
            await self._guests.get(uid).reset()

    async def soft_reboot(self, uid: str) -> None:
        """By the agent. QEMU has no button that asks for a reboot."""
        with _refusals():
            await self._agent(uid).reboot()

    async def agent(self, uid: str, command: str, arguments: JsonObject | None = None) -> Any:
        """See `MachineControl`."""
        with _refusals():
            return await self._agent(uid).execute(command, arguments)

    async def run(self, uid: str, argv: Sequence[str], timeout_s: float) -> GuestExit:
        """See `MachineControl`."""
        with _refusals():
            ended = await self._agent(uid).run(argv, timeout_s=timeout_s)
        return GuestExit(ended.code, (ended.stdout + ended.stderr).decode(errors="replace"))

    async def freeze(self, uid: str, thaw_after_s: float) -> None:
        """See `MachineControl`. A guest that an engine finds frozen when it begins to follow it is thawed."""
        agent = self._agent(uid)
        with _refusals():
            await agent.freeze()
        self._guests.thaw_later(uid, agent, thaw_after_s)

    async def thaw(self, uid: str) -> None:
        """See `MachineControl`."""
        with _refusals():
            await self._agent(uid).thaw()
        self._guests.thaw_no_more(uid)

    def _sockets(self, uid: str) -> Sockets:
        return slot_sockets(self._cloud, uid, self._slots.active(uid))

    def _agent(self, uid: str) -> Agent:
        if not self._guests.has_agent(uid):
            raise MachineRefusal("no guest agent answers in the machine", hint="install and start qemu-guest-agent in the guest")
        return self._guests.agent(uid)

    @staticmethod
    def _socket(path: Path, what: str, field: str) -> Path:
        if not path.exists():
            raise MachineRefusal(f"the machine has no {what}, or does not run", hint=f"start it, without {field}: false")
        return path


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (MachineRefused, MachineUnreachable) as e:
        raise MachineRefusal(format_chain(e), hint="look at the machine's conditions") from e


def _read_picture(folder: Path) -> bytes:
    """The folder belongs to the machine's user, who may put anything there."""
    with open_below(folder, Path(_PICTURE)) as file:
        return file.read(_LARGEST_PICTURE)
