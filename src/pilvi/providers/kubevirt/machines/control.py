"""What people do to a machine that runs, beside starting and stopping it: watch, type, pause, ask its guest agent.

The subresources (`subresources/`) find out which backend runs a machine and call its control; they know nothing of how it runs.
Machines are named by the UID of their VirtualMachineInstance, as everywhere below `machines/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from pilvi.api import JsonObject
from pilvi.errors import UserError
from pilvi.providers.kubevirt.machines.guest import GuestExit

__all__ = ["MachineControl", "MachineRefusal", "SandboxControl"]


class MachineRefusal(UserError):  # noqa: N818 (named as the errors of the tree)
    """The machine, by what it is or in the state in which it is, cannot do that. `hint` says what to do instead."""


class MachineControl(Protocol):
    """Acts on machines of one backend that run. Every method may be called at any time, also repeatedly.

    All raise MachineRefusal for what the machine cannot do, TimedOut when it does not answer, and the errors of their driver. What a call
    has changed is seen by the instance controller by itself; callers write no conditions.
    """

    def console(self, uid: str) -> Path:
        """The Unix socket of the serial console: a stream of bytes in both directions, for one connection at a time."""

    def screen(self, uid: str) -> Path:
        """The Unix socket of the screen: RFB (VNC) without a password."""

    async def screenshot(self, uid: str) -> bytes:
        """What the screen shows, as PNG."""

    async def pause(self, uid: str) -> None:
        """Stop the machine's processors; returns when they stand still. One that stands already is fine."""

    async def resume(self, uid: str) -> None:
        """Let a paused machine go on; returns when it does. One that runs is fine."""

    async def reset(self, uid: str) -> None:
        """As the reset button: at once, and the guest is not asked."""

    async def soft_reboot(self, uid: str) -> None:
        """Ask the guest to reboot, by its agent where it has one, else by ACPI. Returns when it is asked."""

    async def agent(self, uid: str, command: str, arguments: JsonObject | None = None) -> Any:
        """What the guest's agent returns for `command` (`guest-get-osinfo`, ...).

        Raises MachineRefusal also when the agent is not connected, does not know the command, or answers with an error.
        """

    async def run(self, uid: str, argv: Sequence[str], timeout_s: float) -> GuestExit:
        """Have the guest's agent run a program, and wait for its end. One that takes longer goes on in the guest.

        Raises MachineRefusal as `agent` does.
        """

    async def freeze(self, uid: str, thaw_after_s: float) -> None:
        """Have the guest's agent flush and freeze all file systems, and thaw them after that time unless `thaw` did.

        The promise outlives the engine: one that finds a machine frozen when it starts thaws it.
        """

    async def thaw(self, uid: str) -> None:
        """End `freeze`. A guest that is not frozen is fine."""


class SandboxControl(MachineControl):
    """The control of sandboxes, which are no computers: everything is refused, with what there is instead."""

    def console(self, uid: str) -> Path:
        """Refused."""
        _refuse("a serial console", "sudo pilvi logs NAMESPACE/MACHINE shows what its first process wrote")

    def screen(self, uid: str) -> Path:
        """Refused."""
        _refuse("a screen", "sudo pilvi logs NAMESPACE/MACHINE shows what its first process wrote")

    async def screenshot(self, uid: str) -> bytes:
        """Refused."""
        _refuse("a screen", "sudo pilvi logs NAMESPACE/MACHINE shows what its first process wrote")

    async def pause(self, uid: str) -> None:
        """Refused."""
        _refuse("a pause", "stop the machine, or drain its node in the cluster")

    async def resume(self, uid: str) -> None:
        """Refused."""
        _refuse("a pause", "it runs, as long as its VirtualMachine does")

    async def reset(self, uid: str) -> None:
        """Refused."""
        _refuse("a reset button", "restart the VirtualMachine, which makes the machine anew")

    async def soft_reboot(self, uid: str) -> None:
        """Refused."""
        _refuse("a reboot", "restart the VirtualMachine, which makes the machine anew")

    async def agent(self, uid: str, command: str, arguments: JsonObject | None = None) -> Any:
        """Refused."""
        _refuse("a guest agent", "what is known of its system stands in status.guestOSInfo of the VirtualMachineInstance")

    async def run(self, uid: str, argv: Sequence[str], timeout_s: float) -> GuestExit:
        """Refused."""
        _refuse("a guest agent", "probe a port of it")

    async def freeze(self, uid: str, thaw_after_s: float) -> None:
        """Refused."""
        _refuse("a guest agent", "its files lie on the host's file system, which is never frozen")

    async def thaw(self, uid: str) -> None:
        """Refused."""
        _refuse("a guest agent", "its files lie on the host's file system, which is never frozen")


def _refuse(what: str, hint: str) -> NoReturn:
    raise MachineRefusal(f"the machine is a sandbox and has no such thing as {what}", hint=hint)
