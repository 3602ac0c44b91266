"""What is on the host: what one cloud has there, what a machine's inside looks like, and a picture of the whole."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pilvi.engine.process import find_engine
from pilvi.host import mounts, nft
from pilvi.host.cgroups import find_cgroups
from pilvi.host.cloud import RUN_ROOT, Cloud, get_cloud
from pilvi.host.hostfile import open_host_file
from pilvi.host.leftovers import find_leftovers
from pilvi.host.netns import list_netns
from pilvi.host.network import list_links
from pilvi.providers.names import machine_unit
from tests.e2e.cloud import CloudUnderTest, run, wait_until

# Processes are told apart by what they are for, not by pids, and files of the platform are there all the time.
LASTING_KINDS = {"namespace", "link", "nft table", "mount", "loop device", "cgroup"}
# What grows and shrinks in these says nothing: the platform's store, logs, images, the inside of machines, the tests' own.
CHANGING_FOLDERS = {"logs", "etcd", "state", "images", "registry"}
FILE_ROOTS = ("/var/lib", "/run", "/run/lock", "/etc/systemd/system", "/etc/systemd/system/multi-user.target.wants")
SYSCTL_FOLDERS = ("fs/inotify", "kernel", "kernel/keys", "net/bridge", "net/ipv4", "net/ipv4/conf/all", "net/netfilter", "vm")
# These count or measure something, or are random at every reading.
MOVING_SYSCTLS = {
    "kernel.ns_last_pid",
    "kernel.pty.nr",
    "kernel.random.entropy_avail",
    "net.netfilter.nf_conntrack_count",
    "kernel.perf_event_max_sample_rate",
    "kernel.perf_cpu_time_max_percent",
    "vm.stat_refresh",
}


def things_of(cloud: CloudUnderTest) -> set[str]:
    """All that the cloud has on the host (links, rules, mounts, groups, processes, files and so on), and the settings of the host."""
    known = get_cloud(cloud.home)
    leftovers = asyncio.run(find_leftovers(known))
    found = {str(leftover) for leftover in leftovers if leftover.kind in LASTING_KINDS}
    found |= {_purpose(known, int(leftover.name.split()[0])) for leftover in leftovers if leftover.kind == "process"}
    found |= {f"file {path}" for root in (known.home, known.run) for path in _files(root)}
    found |= {f"sysctl {name} = {value}" for name, value in _sysctls().items()}
    return found | _rules(known)


def _purpose(cloud: Cloud, pid: int) -> str:
    """A process by its unit and its program; a unit that is started again has the same."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        groups = Path(f"/proc/{pid}/cgroup").read_text()
        program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
        unit = re.search(rf"/{cloud.cgroup_root}/([^/\n]+)", groups)
        return f"process {Path(program).name} of {f'unit {unit[1]}' if unit else 'the engine'}"
    return "process that has just ended"


def _files(root: Path) -> Iterator[Path]:
    """Every file and folder, but for what is inside of `CHANGING_FOLDERS`."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in CHANGING_FOLDERS]
        yield from (Path(folder, name) for name in (*folders, *files))


def _rules(cloud: Cloud) -> set[str]:
    """Every rule of the cloud's tables in the host's namespace, and all of the platform and of the routers; without counters."""
    tables = [("host", ["nft", "--stateless", "list", "table", family, name]) for family, name in _tables(cloud)]
    for name in list_netns(cloud.netns_prefix):
        if name == cloud.netns("plane") or name.startswith(cloud.netns("vpc-")):
            tables.append((name, ["nsenter", f"--net=/run/netns/{name}", "nft", "--stateless", "list", "ruleset"]))
    found = set()
    for place, argv in tables:
        # A router may go between being listed and being asked.
        found |= {f"rule {line.strip()} in {place}" for line in run(argv, check=False).stdout.splitlines() if line.strip(" \t}")}
    return found


def _tables(cloud: Cloud) -> list[tuple[str, str]]:
    return [(family, name) for family, name in asyncio.run(nft.list_tables(None)) if name.startswith(cloud.nft_table)]


@contextlib.contextmanager
def host_as_before() -> Iterator[None]:
    """What is done inside leaves the host as it was before: every link, mount, rule, group, process, file and setting."""
    with contextlib.suppress(OSError):
        RUN_ROOT.rmdir()  # an empty one of a run that was killed; the next purge takes it away
    before = picture()
    yield
    left: set[str] = set()

    def as_before() -> bool:
        left.clear()
        left.update(picture() ^ before)
        return not left

    wait_until(as_before, lambda: f"the host to be as before; what differs: {sorted(left)}", 30)


def picture() -> set[str]:
    """Everything of the kinds that clouds make, whoever made it, and the host's settings; without what other clouds have."""
    found = asyncio.run(_network_things())
    found |= {f"mount {mount.point}" for mount in mounts.list_mounts()}
    found |= {f"sysctl {name} = {value}" for name, value in _sysctls().items()}
    found |= {f"file {path}" for root in FILE_ROOTS for path in Path(root).glob("*pilvi*")}
    found |= {f"loop device {path.read_text().strip()}" for path in Path("/sys/block").glob("loop*/loop/backing_file")}
    found |= {f"process {b' '.join(words).decode(errors='replace')}" for _, words in command_lines() if b"pilvi.engine" in words}
    if (cgroups := find_cgroups()) is not None:
        found |= {f"cgroup {name}" for name in cgroups.find("")}
    with open_host_file() as host:
        found |= {f"rules {rule}" for rule in _foreign_rules({f"pilvi-{id}" for id in host.clouds})}
        others = [f"pv{id}" for id in host.clouds] + [f"pv-{id}-" for id in host.clouds] + [f"pilvi-{id}" for id in host.clouds]
        others += [str(entry.home) for entry in host.clouds.values()]
    return {thing for thing in found if not any(other in thing for other in others)}


def _foreign_rules(ours: set[str]) -> set[str]:
    """Every rule of tables that are no cloud's, so that nobody touches those either; without counters."""
    tables = [(family, name) for family, name in asyncio.run(nft.list_tables(None)) if not any(name.startswith(own) for own in ours)]
    listed = {f"{family} {name}": run(["nft", "--stateless", "list", "table", family, name], check=False).stdout for family, name in tables}
    return {f"{line.strip()} in {table}" for table, text in listed.items() for line in text.splitlines()}


async def _network_things() -> set[str]:
    links = {f"link {link.name}" for link in await list_links(None)}
    namespaces = {f"namespace {name}" for name in list_netns("")}
    return links | namespaces | {f"nft table {family} {name}" for family, name in await nft.list_tables(None)}


def _sysctls() -> dict[str, str]:
    values = {}
    for folder in SYSCTL_FOLDERS:
        for path in Path("/proc/sys", folder).glob("*"):
            name = str(path.relative_to("/proc/sys")).replace("/", ".")
            with contextlib.suppress(OSError):
                if path.is_file() and name not in MOVING_SYSCTLS:
                    values[name] = path.read_text().strip()
    return values


def worker_pid(cloud: CloudUnderTest, namespace: str, node: str) -> int:
    """Pid, on the host, of the first process of a sandbox worker."""
    uid = cloud.get("-n", namespace, "vmi", node)["metadata"]["uid"]
    enter = cloud.units()[machine_unit(uid)]
    if enter is None:
        raise LookupError(f"the unit of worker {node} does not run")
    return int(Path(f"/proc/{enter}/task/{enter}/children").read_text().split()[0])


def in_worker(cloud: CloudUnderTest, namespace: str, node: str, *argv: str, stdin: Path | None = None, check: bool = True) -> str:
    """Run a command inside a worker; returns what it printed."""
    enter = [
        "nsenter",
        "--target",
        str(worker_pid(cloud, namespace, node)),
        "--mount",
        "--uts",
        "--ipc",
        "--net",
        "--pid",
        "--root",
        "--wd",
    ]
    return run([*enter, *argv], env={"PATH": os.environ["PATH"]}, stdin=stdin, check=check).stdout


def import_image(cloud: CloudUnderTest, namespace: str, node: str, archive: Path) -> None:
    """Give a worker's containerd an image without a registry."""
    wait_until(
        lambda: in_worker(cloud, namespace, node, "ctr", "-n", "k8s.io", "images", "import", "-", stdin=archive) or True,
        f"worker {node} to take the image",
        interval_s=2,
    )


def engine_processes(cloud: CloudUnderTest) -> list[int]:
    """The engine and the parent that would start it again."""
    wanted = str(cloud.home).encode()
    return [pid for pid, words in command_lines() if wanted in words and (b"pilvi.engine" in words)]


def kill_engine(cloud: CloudUnderTest, *, for_good: bool) -> None:
    """kill -9 the engine; `for_good` its parent too, so that nothing starts it again until the next `pilvi up`."""
    pids = engine_processes(cloud)
    assert pids, "no engine runs"
    for pid in pids:
        if for_good or not _is_parent(pid):
            _kill(pid)
    if for_good:
        # One that is just dying has no command line any more, and its record still counts.
        known = get_cloud(cloud.home)
        wait_until(lambda: not engine_processes(cloud) and find_engine(known) is None, "the engine to be dead", 20, 0.02)


def start_engine(cloud: CloudUnderTest) -> None:
    """Start an engine that nobody would start again; returns when it has claimed the cloud, before it does anything."""
    with (cloud.home / "logs" / "engine.log").open("ab") as log:
        argv = ["setsid", "--fork", sys.executable, "-m", "pilvi.engine", "--home", str(cloud.home)]
        subprocess.run(argv, stderr=log, stdin=subprocess.DEVNULL, check=True)
    wait_until(lambda: find_engine(get_cloud(cloud.home)), "the engine to claim the cloud", 30, 0.02)


def signal_engine(cloud: CloudUnderTest, number: signal.Signals) -> None:
    """Send a signal to the engine alone, for example SIGSTOP."""
    for pid in engine_processes(cloud):
        if not _is_parent(pid):
            os.kill(pid, number)


def _is_parent(pid: int) -> bool:
    return b"respawn.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


def cut_power(cloud: CloudUnderTest) -> None:
    """Leave on the host what a power cut and a boot would leave of the cloud: its files on the disk, and nothing else."""
    known = get_cloud(cloud.home)
    kill_engine(cloud, for_good=True)

    def processes() -> list[int]:
        return [int(leftover.name.split()[0]) for leftover in asyncio.run(find_leftovers(known)) if leftover.kind == "process"]

    def all_dead() -> bool:
        for pid in processes():
            _kill(pid)
        return not processes()

    wait_until(all_dead, "every process of the cloud to be dead", 60, 0.2)
    for name in list_netns(known.netns_prefix):
        path = f"/run/netns/{name}"
        subprocess.run(["umount", "-l", path], check=True)
        os.unlink(path)
    wait_until(lambda: _remove_links(known.bridge), "the links to go", 30)
    for family, table in (("ip", known.nft_table), ("inet", known.nft_host_table)):
        subprocess.run(["nft", "delete", "table", family, table], check=False, capture_output=True)
    subprocess.run(["rm", "-rf", str(known.run)], check=True)
    if (cgroups := find_cgroups()) is not None:
        asyncio.run(_remove_groups(known.cgroup_root))
        assert not cgroups.find(known.cgroup_root)


def _remove_links(prefix: str) -> bool:
    for link in asyncio.run(list_links(None, prefix)):
        subprocess.run(["ip", "link", "delete", link.name], check=False, capture_output=True)
    return not asyncio.run(list_links(None, prefix))


async def _remove_groups(root: str) -> None:
    for hierarchy in {Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()}:
        for folder, _, _ in os.walk(hierarchy / root, topdown=False):
            os.rmdir(folder)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    """The pids of a process's own children."""
    return [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]


def command_lines() -> list[tuple[int, list[bytes]]]:
    """Every process of this host with its argv."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append((int(entry), Path("/proc", entry, "cmdline").read_bytes().split(b"\0")))
    return found
