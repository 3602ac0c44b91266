"""What a machine is to the thing that runs it, and what such a thing promises.

The instance controller makes a `MachineSpec` from API objects and hands it to a `MachineBackend`; it knows nothing of how a
machine runs, and a backend asks no API and writes to none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv4Interface
from typing import Literal, Protocol

from pilvi.api.resource import JsonObject
from pilvi.errors import Bug, Transient
from pilvi.providers.attachments import POD_NETWORK
from pilvi.providers.kubevirt.machines.control import MachineControl
from pilvi.providers.kubevirt.machines.dumps import MachineDumps
from pilvi.providers.kubevirt.machines.guest import GuestFacts
from pilvi.providers.kubevirt.machines.moves import MachineMoves
from pilvi.providers.kubevirt.machines.volumes import BootFiles, MachineVolume
from pilvi.providers.sizing import Size

__all__ = ["DiskState", "MachineBackend", "MachineLeg", "MachinePhase", "MachineSpec", "MachineState", "NetworkNotReady", "find_leg"]


class NetworkNotReady(Transient):
    """The Vpc's namespace or the Subnet's bridge is not there yet; another controller makes it."""


MachinePhase = Literal["absent", "starting", "running", "paused", "failing", "succeeded", "failed"]
"""`absent`: no process and none wanted; `paused`: the guest stands still; `failing`: it died and is being restarted with growing delays;
`succeeded`: the guest has powered off; `failed`: it has ended in another way, and is not restarted."""


@dataclass(frozen=True)
class MachineLeg:
    """One interface of a machine: a port of `bridge` in namespace `netns`, and address, MAC, gateway and largest packet of its card.

    `name` is the interface's in the specification, `provider` Kube-OVN's word for the network, `place` which of the machine's places for
    cards it has. `is_default` says that this is the machine's first network; `is_up` is False when the cable is to be pulled.
    """

    netns: str
    bridge: str
    mac: str
    address: IPv4Interface
    gateway: IPv4Address
    mtu: int = 1500
    name: str = "default"
    provider: str = POD_NETWORK
    place: int = 0
    is_default: bool = True
    is_up: bool = True


@dataclass(frozen=True)
class MachineSpec:
    """One machine. `uid` is that of its VirtualMachineInstance: folders, units and links are named by it.

    `name` is the guest's host name. `instance` is the VirtualMachineInstanceSpec, in which the domain says what hardware there is; what it
    names of the API is resolved in `size`, `legs` (in the order of interfaces) and `volumes`. `cpu_milli` is the processor time it may
    take, in thousandths of a processor; None means as much as its vCPUs can. `volumes` are in the order of the specification. `user` is a
    host uid of its own. `kernel` is started in place of a boot loader. `keeper` is the UID of the VirtualMachine for which persistent state
    is kept; without one the state goes with the machine.
    """

    uid: str
    name: str
    namespace: str
    instance: JsonObject
    size: Size
    legs: tuple[MachineLeg, ...]
    volumes: tuple[MachineVolume, ...]
    user: int
    cpu_milli: int | None = None
    stop_grace_s: float = 30.0
    kernel: BootFiles | None = None
    keeper: str = ""

    @property
    def leg(self) -> MachineLeg:
        """The leg in the machine's first network. Raises Bug for a machine without any."""
        leg = find_leg(self.legs)
        if leg is None:
            raise Bug(f"machine {self.namespace}/{self.name} is in no network")
        return leg


def find_leg(legs: Iterable[MachineLeg]) -> MachineLeg | None:
    """The leg in a machine's first network, by which it is reached; None for a machine without any."""
    found = sorted(legs, key=lambda leg: not leg.is_default)
    return found[0] if found else None


@dataclass(frozen=True)
class DiskState:
    """A disk of a machine that runs: `attached` when the guest sees it, `detaching` when it shall let go of it.

    `target` is what a guest would call it (`vda`), `size_bytes` what the guest sees. `message` says what went wrong with it last.
    """

    name: str
    attached: bool = True
    detaching: bool = False
    target: str = ""
    size_bytes: int | None = None
    message: str = ""


@dataclass(frozen=True)
class MachineState:
    """What is seen of a machine now.

    `message` says why it does not run, `reason` the same in KubeVirt's word; `notes` say what of its user data has no effect; `guest_os`
    has the fields of KubeVirt's guestOSInfo that are known. `first_boot` is the exit code of what the user data asks to be run once, None
    until it has ended, `unknown` when nobody can see that from outside. `agent` says whether a guest agent answers, None when there is no
    channel to one or nobody has looked yet; `guest` is what it has told, None before it has. `machine_type` is the concrete one, empty
    when the machine has none.

    Of a machine whose hardware can change while it runs: `disks` and `cards` (by the names of interfaces), None where nobody has looked
    yet; `sockets` that the guest has; its memory at its start and now; `unchanged` says of what (`disk data`, `memory`) the wanted change
    could not be made, and why; `look_again_s` is when it should be tried again.
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
    guest: GuestFacts | None = None
    disks: tuple[DiskState, ...] | None = None
    cards: tuple[str, ...] | None = None
    sockets: int | None = None
    memory_at_start_bytes: int | None = None
    memory_bytes: int | None = None
    unchanged: dict[str, str] = field(default_factory=dict)
    look_again_s: float | None = None


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
    dumps: MachineDumps | None = None
    """How the memory of its machines is written to a claim; None when it cannot be."""

    def overhead_bytes(self, size: Size) -> int:
        """What a machine of this size needs of the host's memory beyond the guest's own."""

    async def ensure(self, spec: MachineSpec) -> MachineState:
        """Make the machine run as `spec` says: start it, or adopt the one that runs. Its writable layer is kept if there is one.

        What of its hardware can change while it runs is changed; what cannot is told by the state, and is no error.
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
