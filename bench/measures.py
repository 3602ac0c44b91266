"""What is measured of a real cloud, driven as a user drives it. All times are seconds, all sizes MiB."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.cloud import PILVI, CloudUnderTest, cluster_manifest, is_true, wait_until
from tests.e2e.host import things_of

from bench import floor
from pilvi.host.cgroups import find_cgroups
from pilvi.host.cloud import get_cloud

CLUSTER = "default/bench"
LIMIT_MIB = 4096
IDLE_S = 30.0
POLL_S = 0.1


def seconds(action: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.monotonic()
    action()
    return time.monotonic() - started


def until(predicate: Callable[[], object], what: str) -> None:
    wait_until(predicate, what, interval_s=POLL_S)


def cli_start(*words: str) -> float:
    """The fastest of five starts of the command line."""
    return min(seconds(lambda: subprocess.run([str(PILVI), *words], check=True, capture_output=True)) for _ in range(5))


def measure(cloud: CloudUnderTest) -> dict[str, float]:
    """Everything about one cloud, from its first start on; names as the table has them."""
    found = {"platform up": seconds(cloud.up)}
    _limit_memory(cloud)
    before = things_of(cloud)
    started = time.monotonic()
    cloud.apply(cluster_manifest("bench", "default", workers=2))
    until(lambda: cloud.exists("-n", "default", "secret", "bench-kubeconfig"), "the kubeconfig")
    until(lambda: cloud.kubectl("get", "--raw", "/readyz", cluster=CLUSTER), "the tenant's API")
    found["tenant API ready"] = time.monotonic() - started
    until(lambda: len(cloud.ready_nodes(CLUSTER)) == 2, "two ready workers")
    found["2 workers Ready"] = time.monotonic() - started
    until(lambda: is_true(cloud.get("-n", "kube-system", "deployment", "coredns", cluster=CLUSTER), "Available"), "DNS")
    found["2 workers Ready and DNS answering"] = time.monotonic() - started
    found["worker added"] = seconds(lambda: _scale(cloud, 3))
    found["pod start"] = min(_pod_start(cloud, f"pod-{number}") for number in range(3))
    _scale(cloud, 2)
    found |= _memory(cloud)
    found["engine CPU idle, %"] = _engine_cpu(cloud)
    found["cluster delete"] = seconds(lambda: _delete(cloud, before))
    return found


def _scale(cloud: CloudUnderTest, workers: int) -> None:
    cloud.kubectl("-n", "default", "patch", "cluster", "bench", "--type=json", "-p", _replicas(workers))
    until(lambda: len(cloud.ready_nodes(CLUSTER)) == workers == len(cloud.items("nodes", cluster=CLUSTER)), f"{workers} workers")


def _replicas(workers: int) -> str:
    return f'[{{"op": "replace", "path": "/spec/topology/workers/machineDeployments/0/replicas", "value": {workers}}}]'


def _pod_start(cloud: CloudUnderTest, name: str) -> float:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [{"name": "pause", "image": floor.pause_reference(), "imagePullPolicy": "Never"}],
            "terminationGracePeriodSeconds": 0,
        },
    }

    def start() -> None:
        cloud.apply(pod, cluster=CLUSTER)
        until(lambda: cloud.get("pod", name, cluster=CLUSTER)["status"]["phase"] == "Running", "the pod to run")

    return seconds(start)


def _delete(cloud: CloudUnderTest, before: set[str]) -> None:
    cloud.kubectl("-n", "default", "delete", "cluster", "bench")
    until(lambda: things_of(cloud) <= before, "the host to be as before the cluster")


def _limit_memory(cloud: CloudUnderTest) -> None:
    """Give all units of the cloud together 4 GiB, less what the engine takes."""
    _write_limit(cloud, (LIMIT_MIB - 150) << 20)


def _write_limit(cloud: CloudUnderTest, size_bytes: int) -> None:
    group = get_cloud(cloud.home).cgroup_root
    for path in (Path("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"), Path("/sys/fs/cgroup", group, "memory.max")):
        if path.exists():
            path.write_text(str(size_bytes))
            return
    raise RuntimeError("the cloud's control group cannot be limited")


def _memory(cloud: CloudUnderTest) -> dict[str, float]:
    """Proportional memory of the processes of each kind at rest, and the highest that all units had together."""
    time.sleep(15)
    units = {name: pid for name, pid in cloud.units().items() if pid is not None}
    cgroups = find_cgroups()
    assert cgroups is not None
    group = get_cloud(cloud.home).cgroup_root
    planes = sum(_pss(pid) for name, pid in units.items() if name.startswith("cp-"))
    workers = [sum(_pss(pid) for pid in cgroups.procs(f"{group}/{name}")) for name in units if name.startswith("m-")]
    engine = cloud.status()["engine"]["pid"]
    peak = Path("/sys/fs/cgroup/memory", group, "memory.max_usage_in_bytes")
    found = {"memory per control plane": planes, "memory per worker": sum(workers) / len(workers), "memory of the engine": _pss(engine)}
    if peak.exists():
        found["peak of all units, page cache included"] = int(peak.read_text()) / (1 << 20)
    return found


def _pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _engine_cpu(cloud: CloudUnderTest) -> float:
    pid = cloud.status()["engine"]["pid"]
    before = _cpu_seconds(pid)
    time.sleep(IDLE_S)
    return (_cpu_seconds(pid) - before) / IDLE_S * 100


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
