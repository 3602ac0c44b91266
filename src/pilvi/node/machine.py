"""One worker put together: from the facts of a virtual machine to the sandbox that runs the node image."""

import os
import stat
from pathlib import Path

import msgspec

from pilvi.host.sandbox import Bind, SandboxFile, SandboxSpec, cpuinfo_file, meminfo_file, prepare_sandbox, private_sysctls
from pilvi.node.containerd_state import copy_containerd_state
from pilvi.node.files import NodeFacts, Surroundings, node_files
from pilvi.node.programs import INIT
from pilvi.node.reference import NodeImage

# The kubelet sets these at its start, and they belong to the whole host.
_KUBELET_SYSCTLS = (
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
)
# Checks of `kubeadm join` that cannot hold in a sandbox. SystemVerification looks for the host's kernel configuration in the machine's
# /boot, and refuses a host with cgroup version 1 whatever the kubelet is told.
IGNORED_PREFLIGHT_ERRORS = ("SystemVerification",)
_LONGEST_EXIT_BYTES = 16
_PRODUCT_UUID = Path("/sys/class/dmi/id/product_uuid")


class SandboxFacts(NodeFacts, frozen=True, kw_only=True):
    """A node that is a sandbox.

    `unit` is the unit's name, `state` the machine's folder on a real file system, `netns` a ready namespace with the machine's link.
    `cpu_milli` is as in SandboxSpec.
    """

    unit: str
    state: Path
    netns: str
    memory_bytes: int
    cpus: int
    cpu_milli: int | None = None
    stop_grace_s: float = 30.0


class NodeMachine(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that can be prepared and run. `notes` say what of the bootstrap data has no effect here."""

    sandbox: SandboxSpec
    image: NodeImage
    notes: tuple[str, ...] = ()

    @property
    def containerd(self) -> Path:
        """Where containerd keeps its state: on the host's file system, since overlay cannot lie on overlay."""
        return self.sandbox.state / "containerd"

    @property
    def kubelet(self) -> Path:
        """Where the kubelet keeps its state, in which pods' volumes are mounted."""
        return self.sandbox.state / "kubelet"


def node_machine(facts: SandboxFacts, image: NodeImage) -> NodeMachine:
    """The worker for these facts, running `image`. Reads a few files of /proc, writes nothing.

    Raises UserError, naming the key, when its bootstrap data cannot be carried out.
    """
    around = Surroundings(
        machine="sandbox",
        cgroup_version=_cgroup_version(),
        systemd=False,
        surplus_cpus=(os.cpu_count() or facts.cpus) - facts.cpus,
        ignored_errors=IGNORED_PREFLIGHT_ERRORS,
    )
    files, notes = node_files(facts, image.pause, around)
    sandbox = SandboxSpec(
        name=facts.unit,
        root=image.root,
        state=facts.state,
        hostname=facts.name,
        # Some of the grace is left to the host, which must see the machine end.
        init=(INIT, f"-grace={max(facts.stop_grace_s - 2, 1):g}s"),
        netns=facts.netns,
        memory_bytes=facts.memory_bytes,
        cpus=facts.cpus,
        cpu_milli=facts.cpu_milli,
        environment={"HOME": "/root"},
        binds=(
            Bind(source=facts.state / "containerd", target=Path("/var/lib/containerd")),
            Bind(source=facts.state / "kubelet", target=Path("/var/lib/kubelet"), shared=True),
        ),
        layer_files=tuple(SandboxFile(path=Path(file.path), content=file.content, mode=file.mode) for file in files),
        private_files=_kernel_view(facts),
        stop_grace_s=facts.stop_grace_s,
    )
    return NodeMachine(sandbox=sandbox, image=image, notes=notes)


def prepare_node_machine(machine: NodeMachine) -> None:
    """Write everything that the machine's unit needs; blocking (some 20 ms), idempotent, may be called while it runs.

    Use `lib.disk`. Raises OSError when the file system refuses.
    """
    machine.sandbox.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy_containerd_state(machine.image.containerd, machine.containerd)
    machine.kubelet.mkdir(mode=0o755, exist_ok=True)
    prepare_sandbox(machine.sandbox)


def find_first_boot_exit(machine: NodeMachine) -> int | None:
    """How the first-boot script ended: its exit code, or None while it has not ended.

    The guest may put anything there, and nothing of it may hold up its own deletion: neither a pipe, nor a link to a file of the
    host, nor what is no number.
    """
    done = machine.sandbox.layer / "var/lib/pilvi/first-boot.done"
    try:
        descriptor = os.open(done, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(descriptor, _LONGEST_EXIT_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
        return int(text)
    except ValueError:
        return None
    finally:
        os.close(descriptor)


def _kernel_view(facts: SandboxFacts) -> tuple[SandboxFile, ...]:
    view = [
        meminfo_file(facts.memory_bytes),
        cpuinfo_file(facts.cpus, Path("/proc/cpuinfo").read_text()),
        *private_sysctls(_KUBELET_SYSCTLS),
    ]
    if _PRODUCT_UUID.exists():
        view.append(SandboxFile(path=_PRODUCT_UUID, content=f"{facts.uid}\n".encode(), mode=0o400))
    return tuple(view)


def _cgroup_version() -> int:
    """Which version machines of this host see: 2 only when no version 1 hierarchy is left."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return 2 if len(lines) == 1 and lines[0].startswith("0::") else 1
