"""`python -m bench`: one table of times and sizes, each beside the floor of the same run where there is one. Needs root and a built kit."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from bench.cloud import PAUSE, BenchCloud, stopwatch
from bench.table import Row, render
from pilvi import kit

FLOOR = Path(__file__).parent / "floor"
FOUR_GIB = 4 << 30


def floor(script: str, *words: str) -> dict[str, float]:
    """Run a floor script; it prints `NAME NUMBER` lines."""
    done = subprocess.run(["sh", str(FLOOR / script), *words], capture_output=True, text=True, check=True)
    return {name: float(number) for name, number in (line.split() for line in done.stdout.splitlines())}


def main() -> None:
    """Measure everything and print the table."""
    binaries = kit.get_binary("kubectl").parent
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, kernel {platform.release()}, load {os.getloadavg()[0]:.1f}"
    )
    plain = floor("control-plane.sh", str(binaries), kit.kubernetes_versions()[-1])
    archive = next(path for path in kit.image_archives() if path.name == "pause.tar")
    plain |= floor("container.sh", str(kit.get_binary("containerd").parent), str(archive), PAUSE)
    process = floor("process.sh", sys.executable)
    rows = [Row("CLI: pilvi --help", best_start(), process["python"], "s")]
    cloud = BenchCloud()
    try:
        rows += measure(cloud, plain, process)
    finally:
        cloud.purge()
    print(render(rows))


def measure(cloud: BenchCloud, plain: dict[str, float], process: dict[str, float]) -> list[Row]:
    """Everything that needs a cloud."""
    with stopwatch() as up:
        cloud.pilvi("up")
    # The engine is outside of the group, so its share is taken off.
    limit = FOUR_GIB - cloud.engine_memory_bytes()
    cloud.limit_memory(limit)
    times = cloud.create("one", workers=2)
    rows = [
        Row("platform up", up.seconds, plain["serviceaccount"], "s"),
        Row("tenant API ready", times["api"], plain["readyz"], "s"),
        Row("cluster with 2 workers, nodes Ready, DNS up", times["ready"], plain["serviceaccount"], "s"),
        Row("pod start", cloud.pod_start_s("one"), plain["container"], "s"),
        Row("memory per control plane", cloud.control_plane_bytes(), plain["memory"], "MB"),
        Row("memory per worker", cloud.worker_bytes(), None, "MB"),
        Row("engine memory", cloud.engine_memory_bytes(), process["aiohttp"], "MB"),
        Row("engine CPU when idle", cloud.engine_idle_percent(), None, "%"),
        Row("whole first cloud, most memory in 4 GiB", cloud.most_memory_bytes() + cloud.engine_memory_bytes(), float(FOUR_GIB), "MB"),
    ]
    with stopwatch() as scale:
        cloud.pilvi("cluster", "scale", "one", "--workers", "3")
    with stopwatch() as delete:
        cloud.pilvi("cluster", "delete", "one", "--yes")
    rows += [Row("worker added", scale.seconds, None, "s"), Row("cluster deleted, nothing left", delete.seconds, None, "s")]
    return rows


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
