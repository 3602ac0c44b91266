"""Runs machines as sandboxes: namespaces around a root file system, one unit for each machine.

What a machine has on the host: the folder `<home>/machines/<uid>` (its writable layer, its user data), the namespace and leg of
`pilvi.providers.names`, and one unit. The unit restarts whatever died, on the same layer: to the guest that is a reset.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.errors import Bug, DriverError, UserError
from pilvi.host.netns import is_inside
from pilvi.host.sandbox import remove_sandbox, sandbox_unit
from pilvi.kit.store import Store
from pilvi.lib.disk import on_disk
from pilvi.lib.files import remove_tree, write_atomic
from pilvi.node import NodeImage, NodeMachine, SandboxFacts, find_node_image, node_machine, prepare_node_machine
from pilvi.node.machine import find_first_boot_exit
from pilvi.providers.kubevirt.machines.backend import MachineBackend, MachinePhase, MachineSpec, MachineState, NetworkNotReady
from pilvi.providers.kubevirt.machines.control import SandboxControl
from pilvi.providers.kubevirt.machines.folder import list_machine_folders, machine_folder
from pilvi.providers.kubevirt.machines.sandbox.fields import find_unused
from pilvi.providers.kubevirt.machines.sandbox.guest import guest_os
from pilvi.providers.kubevirt.machines.sandbox.network import plan_network
from pilvi.providers.kubevirt.machines.volumes import CloudInitDisk, NodeDisk
from pilvi.providers.names import machine_netns, machine_unit
from pilvi.providers.sizing import Size

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.host.units import Units, UnitState
    from pilvi.providers.platform import Platform

__all__ = ["SandboxBackend"]

_PHASES: dict[str, MachinePhase] = {"running": "running", "waiting": "failing", "exited": "failing", "absent": "absent"}
_LOG_LINES = 3
STATE = "state"
"""The folder of a sandbox below that of its machine."""
_NOTHING_TO_DO = b"#cloud-config\n"


class SandboxBackend(MachineBackend):
    """See `MachineBackend`. `kit` is the folder that holds node images, `enter` finds the kit's `sandbox-enter` binary.

    Nodes trust `registry_authority` (PEM) for the cloud's own registry.
    """

    name = "sandbox"
    fidelity = "Sandbox"
    fidelity_message = "namespaces of the host's own kernel run the node image: real containerd and kubelet, but no security boundary"

    def __init__(self, cloud: Cloud, units: Units, kit: Path, enter: Callable[[], Path], registry_authority: str = "") -> None:
        self._cloud = cloud
        self._units = units
        self._kit = kit
        self._enter = enter
        self._registry_authority = registry_authority
        self._machines: dict[str, NodeMachine] = {}  # what is known of the machines that run, beside their units
        self.control = SandboxControl()
        self._notes: dict[str, tuple[str, ...]] = {}

    @classmethod
    def for_platform(cls, platform: Platform) -> SandboxBackend:
        """The backend of a cloud, with the node images and the binaries of the kit on this host."""
        return cls(
            platform.cloud,
            platform.units,
            Store().root,
            lambda: platform.kit.get_binary("sandbox-enter"),
            platform.registry_authority,
        )

    def overhead_bytes(self, size: Size) -> int:
        """None: a sandbox has no memory of its own but the guest's."""
        return 0

    async def ensure(self, spec: MachineSpec) -> MachineState:
        """Give the machine its namespace and leg; unless it runs already, its files and its unit.

        A running machine is left as it was started: a newer kit or node image is taken when it is started next. One whose namespace was
        lost and made anew is reset, since nothing reaches it any more.
        """
        await self._attach(spec)
        unused = find_unused(spec.instance)
        self._notes[spec.uid] = (f"without effect in a sandbox: {', '.join(unused)}",) if unused else ()
        unit = self._units.state(machine_unit(spec.uid))
        if unit.pid is not None and is_inside(unit.pid, machine_netns(self._cloud, spec.uid)):
            await self._adopt(spec)
        else:
            machine = node_machine(await self._facts(spec), self._get_image(_version(spec)))
            await on_disk(prepare_node_machine, machine)
            unit = await self._units.ensure(sandbox_unit(self._cloud, machine.sandbox, self._enter()))
            self._machines[spec.uid] = machine
        return _machine_state(unit, self._machines.get(spec.uid), self._notes[spec.uid])

    def state(self, uid: str) -> MachineState:
        """From the unit's state."""
        if not self._has(uid):
            return MachineState("absent")
        return _machine_state(self._units.state(machine_unit(uid)), self._machines.get(uid), self._notes.get(uid, ()))

    def subscribe(self, changed: Callable[[str], None]) -> None:
        """Nothing: all that is seen of a sandbox is its unit's, which wakes by itself."""

    async def run(self) -> None:
        """Nothing to watch beside the units."""

    async def stop(self, uid: str, grace_s: float) -> None:
        """SIGTERM to the sandbox's PID 1, which ends its services in order."""
        if not self._has(uid):
            return
        await self._units.stop(machine_unit(uid), grace_s=grace_s)

    async def kill(self, uid: str) -> None:
        """All its processes at once."""
        await self.stop(uid, 0)

    async def remove(self, uid: str) -> None:
        """Unit, namespace with its leg, folder: in this order, so that nothing is taken away under a running process."""
        from pilvi.host.network import delete_netns  # noqa: PLC0415 (half a second of import that a CLI must not pay)

        await self._units.stop(machine_unit(uid), grace_s=0)
        await delete_netns(machine_netns(self._cloud, uid))
        folder = machine_folder(self._cloud, uid)
        await on_disk(_remove_folder, folder)
        self._machines.pop(uid, None)
        self._notes.pop(uid, None)

    async def list_uids(self) -> list[str]:
        """The folders of all machines; to remove one that another backend runs takes nothing from it but its folder."""
        return list_machine_folders(self._cloud)

    def _has(self, uid: str) -> bool:
        """Whether the machine of this UID is a sandbox: backends share the names of units."""
        return (machine_folder(self._cloud, uid) / STATE).is_dir()

    async def _adopt(self, spec: MachineSpec) -> None:
        """Know a machine that an earlier engine has started, if the image that it was made from is still here."""
        if spec.uid not in self._machines and (image := find_node_image(_version(spec), self._kit)) is not None:
            self._machines[spec.uid] = node_machine(await self._facts(spec), image)

    def _get_image(self, version: str) -> NodeImage:
        image = find_node_image(version, self._kit)
        if image is None:
            raise UserError(
                f"no node image for Kubernetes {version} is built here",
                hint="run `pilvi kit build`, or choose a version of `pilvi kit list`",
            )
        return image

    async def _facts(self, spec: MachineSpec) -> SandboxFacts:
        folder = machine_folder(self._cloud, spec.uid)
        cloud_init = next((volume for volume in spec.volumes if isinstance(volume, CloudInitDisk)), CloudInitDisk(name=""))
        if cloud_init.network_data:
            raise UserError(
                f"volume {cloud_init.name} gives network data, and address, gateway and resolver of a sandbox come from its Subnet",
                hint="remove it; ask for a fixed address with annotation ovn.kubernetes.io/ip_address",
            )
        return SandboxFacts(
            name=spec.name,
            namespace=spec.namespace,
            uid=spec.uid,
            unit=machine_unit(spec.uid),
            state=folder / STATE,
            netns=machine_netns(self._cloud, spec.uid),
            memory_bytes=spec.size.memory_bytes,
            cpus=spec.size.vcpus,
            cpu_milli=spec.cpu_milli,
            address=spec.leg.address,
            resolver=spec.leg.gateway,
            mtu=spec.leg.mtu,
            user_data=await on_disk(_keep_user_data, folder, cloud_init.user_data) or _NOTHING_TO_DO,
            meta_data=cloud_init.meta_data,
            registry_authority=self._registry_authority,
            stop_grace_s=spec.stop_grace_s,
        )

    async def _attach(self, spec: MachineSpec) -> None:
        from pilvi.host.network import ensure_netns, ensure_network, ensure_veth  # noqa: PLC0415 (as above)

        network, veth = plan_network(self._cloud, spec)
        await ensure_netns(machine_netns(self._cloud, spec.uid))
        try:
            await ensure_veth(veth)
        except (FileNotFoundError, DriverError) as e:
            raise NetworkNotReady(f"machine {spec.namespace}/{spec.name} cannot be attached to bridge {spec.leg.bridge} yet") from e
        await ensure_network(network)


def _version(spec: MachineSpec) -> str:
    """Which node image the machine runs. Raises Bug without one: another machine is not given to this backend."""
    for volume in spec.volumes:
        if isinstance(volume, NodeDisk):
            return volume.version
    raise Bug(f"machine {spec.namespace}/{spec.name} has no node image")


def _machine_state(unit: UnitState, machine: NodeMachine | None, notes: tuple[str, ...]) -> MachineState:
    started = datetime.fromtimestamp(unit.started_at, UTC) if unit.started_at is not None else None
    phase = _PHASES[unit.state]
    message = ""
    if phase == "failing":
        last = " | ".join(unit.log_tail.strip().splitlines()[-_LOG_LINES:])
        message = f"the machine's first process ended ({unit.exit or 'unknown'}) and is started again; its last lines: {last}"
    if machine is None:
        return MachineState(phase, started, unit.restarts, message, notes)
    exit_code = find_first_boot_exit(machine)
    return MachineState(phase, started, unit.restarts, message, (*machine.notes, *notes), guest_os(machine.image), exit_code)


def _keep_user_data(folder: Path, given: bytes | None) -> bytes:
    """What the machine is made with: the first that was given. It may hold a join token, so only root reads it."""
    path = folder / "user-data"
    if path.exists():
        return path.read_bytes()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, given or b"", mode=0o600)
    return given or b""


def _remove_folder(folder: Path) -> None:
    remove_sandbox(folder / STATE)
    remove_tree(folder)
