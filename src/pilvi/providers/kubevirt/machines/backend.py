"""What a machine is to the thing that runs it, and what such a thing promises.

The instance controller makes a `MachineSpec` from API objects and hands it to a `MachineBackend`; it knows nothing of how a
machine runs, and a backend asks no API and writes to none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv4Interface
from typing import Literal, Protocol

from pilvi.api.resource import JsonObject
from pilvi.errors import Transient
from pilvi.providers.kubevirt.machines.control import MachineControl
from pilvi.providers.kubevirt.machines.moves import MachineMoves
from pilvi.providers.kubevirt.machines.volumes import MachineVolume
from pilvi.providers.sizing import Size

__all__ = ["MachineBackend", "MachineLeg", "MachinePhase", "MachineSpec", "MachineState", "NetworkNotReady"]


class NetworkNotReady(Transient):
    """The Vpc's namespace or the Subnet's bridge is not there yet; another controller makes it."""


MachinePhase = Literal["absent", "starting", "running", "paused", "failing", "succeeded", "failed"]
"""`absent`: no process and none wanted; `paused`: the guest stands still; `failing`: it died and is being restarted with growing delays;
`succeeded`: the guest has powered off; `failed`: it has ended in another way, and is not restarted."""


@dataclass(frozen=True)
class MachineLeg:
    """How the machine is attached: a port of `bridge` in namespace `netns`, and address, MAC, gateway and largest packet of its `eth0`."""

    netns: str
    bridge: str
    mac: str
    address: IPv4Interface
    gateway: IPv4Address
    mtu: int = 1500


@dataclass(frozen=True)
class MachineSpec:
    """One machine. `uid` is that of its VirtualMachineInstance: folders, units and links are named by it.

    `name` is the guest's host name. `instance` is the VirtualMachineInstanceSpec, in which the domain says what hardware there is; what it
    names of the API is resolved in `size`, `leg` and `volumes`. `cpu_milli` is the processor time it may take, in thousandths of a
    processor; None means as much as its vCPUs can. `volumes` are in the order of the specification. `user` is a host uid of its own.
    """

    uid: str
    name: str
    namespace: str
    instance: JsonObject
    size: Size
    leg: MachineLeg
    volumes: tuple[MachineVolume, ...]
    user: int
    cpu_milli: int | None = None
    stop_grace_s: float = 30.0


@dataclass(frozen=True)
class MachineState:
    """What is seen of a machine now.

    `message` says why it does not run, `reason` the same in KubeVirt's word; `notes` say what of its user data has no effect; `guest_os`
    has the fields of KubeVirt's guestOSInfo that are known. `first_boot` is the exit code of what the user data asks to be run once, None
    until it has ended, `unknown` when nobody can see that from outside. `agent` says whether a guest agent answers, None when there is no
    channel to one. `machine_type` is the concrete one, empty when the machine has none.
    """

    phase: MachinePhase
    started_at: datetime | None = None
    restarts: int = 0
    message: str = ""
    notes: tuple[str, ...] = ()
    guest_os: dict[str, str] = field(default_factory=dict)
    first_boot: int | Literal["unknown"] | None = None
    reason: str = ""
    agent: bool | None = None
    machine_type: str = ""


class MachineBackend(Protocol):
    """Runs machines. Every method may be called repeatedly, at any time, and after a crash of the engine in the middle of another."""

    name: str
    """`sandbox` or `qemu`: what `pilvi.dev/machine` names."""
    fidelity: str
    """How real its machines are: `Kvm`, `Tcg` or `Sandbox`; the reason of the instance's Fidelity condition."""
    fidelity_message: str
    """One sentence for people about what that means."""

    control: MachineControl
    """What people do to its machines while they run."""
    moves: MachineMoves | None = None
    """How its machines go on in another process; None when they cannot."""

    def overhead_bytes(self, size: Size) -> int:
        """What a machine of this size needs of the host's memory beyond the guest's own."""

    async def ensure(self, spec: MachineSpec) -> MachineState:
        """Make the machine run as `spec` says: start it, or adopt the one that runs. Its writable layer is kept if there is one.

        Returns `starting` while it is busy. Raises UserError for what a person must mend, NetworkNotReady, UnitFailed when its
        first process cannot be started, and OSError when the file system refuses.
        """

    def state(self, uid: str) -> MachineState:
        """What is seen of the machine now; `absent` when there is none."""

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """`changed(uid)` is called in the loop after what is seen of a machine has changed. Only a signal: read the state again."""

    async def run(self) -> None:
        """Watch the machines that run, also those of an earlier engine. Ends only by cancellation, and the machines live on."""

    async def stop(self, uid: str, grace_s: float) -> None:
        """Ask the guest to power off, end it after `grace_s` seconds, and return when it has ended. Its layer is kept."""

    async def kill(self, uid: str) -> None:
        """End it at once, as when its host loses power. Its layer is kept."""

    async def remove(self, uid: str) -> None:
        """Remove all that the machine had: process, namespace, links, folder. It must have been stopped."""

    async def list_uids(self) -> list[str]:
        """UIDs of all machines of which anything is left, for the sweep of those whose instance is gone."""
