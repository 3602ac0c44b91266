"""`python -m bench`: one table of times and sizes, each beside the floor of the same run where there is one. Needs root and a built kit.

It runs in a mount namespace of its own, in which the bench's control group is the top of the tree of memory (see `bench.limit`) and
/run/netns is empty: no other cloud of the host is seen or touched.
"""

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.guests import guest_image

from bench.cloud import IDLE_S, PAUSE, SETTLE_S, BenchCloud, stopwatch
from bench.limit import MemoryLimit, limited
from bench.table import Row, render
from bench.virtual_machines import AT_ONCE, AT_ONCE_MIB, MEMORY_MIB, measure_virtual_machines
from pilvi import kit
from pilvi.engine import service
from pilvi.host import libc, mounts
from pilvi.host.cgroups import get_cgroups
from pilvi.host.netns import NETNS_DIR
from pilvi.node import find_node_image

FLOOR = Path(__file__).parent / "floor"
FOUR_GIB = 4 << 30
HOME_BYTES = 16 << 30
RUNS = 3
BUSY_LOAD = 1.0
Floors = dict[str, list[float]]


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--machines", type=int, default=0, help="also measure the engine with so many idle machines")
    parser.add_argument("--virtual-machines", action="store_true", help="measure virtual machines, and nothing else")
    options = parser.parse_args()
    if service.is_available():
        sys.exit("make bench: systemd would start the engine outside of the memory limit; run it in a container without systemd")
    if "PILVI_BENCH_ENCLOSED" not in os.environ:
        words = ["unshare", "--mount", "--propagation", "slave", sys.executable, "-m", "bench", *sys.argv[1:]]
        os.execvpe(words[0], words, {**os.environ, "PILVI_BENCH_ENCLOSED": "1"})  # noqa: S606 - the same program again
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("make bench: ended"))
    NETNS_DIR.mkdir(exist_ok=True)
    libc.mount("tmpfs", NETNS_DIR, "tmpfs", 0, "mode=755")
    mounts.make_shared(NETNS_DIR)

    load = os.getloadavg()[0]
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, kernel {platform.release()}, load {load:.1f} at the start"
    )
    if load > BUSY_LOAD:
        print(f"The machine is busy: with a load above {BUSY_LOAD:.0f} times are longer and ratios uncertain.")
    sys.stdout.flush()
    rows = virtual_machines() if options.virtual_machines else clusters(options.machines)
    print(render(rows))


def clusters(machines: int) -> list[Row]:
    """The platform and its clusters."""
    floors = measure_floors()
    rows = [Row("CLI: pilvi --help (best of 10)", [best_start()], floors["python"], "s")]
    with limited(FOUR_GIB) as limit, bench_home() as home, bench_cloud(home) as cloud:
        return rows + measure(cloud, limit, floors, machines)


def virtual_machines() -> list[Row]:
    """Machines under QEMU."""
    floors: Floors = defaultdict(list)
    disk, memory = str(guest_image().qcow2), str(MEMORY_MIB)
    with bench_home() as home, xfs(home):
        for _ in range(RUNS):
            run_floor(floors, "machine.py", disk, memory)
            run_floor(floors, "machine.py", "many", disk, str(AT_ONCE_MIB), str(AT_ONCE))
            run_floor(floors, "disk.py", str(home))
            run_floor(floors, "move.py", disk, memory)
            run_floor(floors, "streams.py", disk, memory)
        with bench_cloud(home) as cloud:
            cloud.up("--hosts", "2")
            return measure_virtual_machines(cloud, floors)


@contextmanager
def bench_home() -> Iterator[Path]:
    """A folder for a cloud, removed at the end."""
    home = Path(tempfile.mkdtemp(prefix="pilvi-bench-", dir="/var/lib"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def xfs(home: Path) -> Iterator[None]:
    """A file system at `home` that copies by reflink, in a sparse file."""
    with tempfile.NamedTemporaryFile(dir=home.parent, prefix="pilvi-bench-", suffix=".xfs") as file:
        file.truncate(HOME_BYTES)
        subprocess.run(["mkfs.xfs", "-q", file.name], check=True)
        subprocess.run(["mount", "-o", "loop", file.name, home], check=True)
        try:
            home.chmod(0o755)
            yield
        finally:
            subprocess.run(["umount", home], check=True)


@contextmanager
def bench_cloud(home: Path) -> Iterator[BenchCloud]:
    """A cloud that is purged at the end."""
    cloud = BenchCloud(home)
    try:
        yield cloud
    finally:
        cloud.purge()


def measure_floors() -> Floors:
    """Everything that plain scripts do."""
    version = kit.kubernetes_versions()[-1]
    programs = str(kit.get_binary("kubectl").parent)
    image = find_node_image(version, kit.get_folder())
    if image is None:
        sys.exit("make bench: there is no node image; make kit")
    archive = next(path for path in kit.image_archives() if path.name == "pause.tar")
    found: Floors = defaultdict(list)
    for _ in range(RUNS):
        run_floor(found, "control-plane.sh", programs, version, sys.executable)
        run_floor(found, "container.sh", str(kit.get_binary("containerd").parent), str(archive), PAUSE)
        if get_cgroups().version == 1:
            run_floor(found, "cluster.sh", programs, version, sys.executable, str(image.root.parent))
    run_floor(found, "process.sh", sys.executable)
    return found


def run_floor(found: Floors, script: str, *words: str) -> None:
    """Run a floor script, which prints `NAME NUMBER` lines, and add what it found. It is given the time to remove what it made."""
    program = "sh" if script.endswith(".sh") else sys.executable
    with subprocess.Popen([program, str(FLOOR / script), *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            output, _ = process.communicate()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        sys.exit(f"make bench: the floor {script} failed")
    for line in output.splitlines():
        name, number = line.split()
        found[name].append(float(number))


def measure(cloud: BenchCloud, limit: MemoryLimit, floors: Floors, machines: int) -> list[Row]:
    """Everything that needs a cloud. The first cluster is made in 4 GiB; then the limit is lifted, and the rest repeated."""
    up = cloud.up()
    times: dict[str, list[float]] = defaultdict(list)
    for number in range(RUNS):
        for name, seconds in cloud.create("one", workers=2).items():
            times[name].append(seconds)
        if number == 0:
            times["pod"] = [cloud.pod_start_s("one", f"bench-{index}") for index in range(RUNS)]
            time.sleep(SETTLE_S)
            sizes = {"plane": cloud.control_plane_bytes(), "worker": cloud.worker_bytes(), "engine": cloud.engine_bytes()}
            idle = cloud.engine_idle_percent()
            watches = cloud.engine_connections()
            most = limit.most_bytes()
            run_floor(floors, "idle.py", str(cloud.kubeconfig), str(watches), str(IDLE_S))
            offered = cloud.offered_memory()
            limit.lift()
            cloud.wait_memory_seen(offered)
        for name, seconds in cloud.scale("one", 3).items():
            times[name].append(seconds)
        times["deleted"].append(cloud.delete("one"))
    version = kit.kubernetes_versions()[-1]
    alone = [cloud.create_plane("alone", version) for _ in range(RUNS)]
    rows = [
        Row("platform up", [up], floors["serviceaccount"], "s"),
        Row("tenant API ready, TenantControlPlane alone", alone, floors["readyz"], "s"),
        Row("tenant API ready, in `cluster create`", times["api"], floors["readyz"], "s"),
        Row("cluster with 2 workers, nodes Ready, DNS up", times["ready"], floors["cluster"], "s"),
        Row("worker added, its node Ready", times["added"], floors["added"], "s"),
        Row("worker added, all of `cluster scale`", times["counted"], floors["added"], "s"),
        Row("pod start", times["pod"], floors["container"], "s"),
        Row("cluster of 3 workers deleted, nothing left", times["deleted"], floors["removed"], "s"),
        Row("memory per control plane", [sizes["plane"]], floors["memory"], "MB"),
        Row("memory per worker", [sizes["worker"]], floors["worker"], "MB"),
        Row("engine memory", [sizes["engine"]], floors["aiohttp"], "MB"),
        Row(f"engine CPU when idle ({watches} watches)", [idle], floors["idle"], "%"),
        Row("whole first cloud, most memory in 4 GiB", [most], [float(FOUR_GIB)], "MB"),
    ]
    return rows + (measure_machines(cloud, machines, version) if machines else [])


def measure_machines(cloud: BenchCloud, number: int, version: str) -> list[Row]:
    """What the engine needs with so many machines at rest."""
    with stopwatch() as start:
        cloud.start_machines(number, f"pilvi.dev/node:{version}")
    time.sleep(SETTLE_S)
    return [
        Row(f"{number} machines Running", [start.seconds], [], "s"),
        Row(f"engine memory, {number} machines", [cloud.engine_bytes()], [], "MB"),
        Row(f"engine CPU when idle, {number} machines", [cloud.engine_idle_percent()], [], "%"),
    ]


def best_start() -> float:
    """Seconds of `pilvi --help`, best of ten."""
    command = shutil.which("pilvi", path=str(Path(sys.executable).parent)) or "pilvi"
    best = float("inf")
    for _ in range(10):
        with stopwatch() as watch:
            subprocess.run([command, "--help"], stdout=subprocess.DEVNULL, check=True)
        best = min(best, watch.seconds)
    return best


if __name__ == "__main__":
    main()
