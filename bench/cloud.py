"""The cloud that is measured, driven by the command line as a user drives it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pilvi.engine.process import find_engine
from pilvi.host.cloud import get_cloud

IDLE_S = 20.0
PATIENCE_S = 300.0
PAUSE = "registry.k8s.io/pause:3.10.2"


class Stopwatch:
    """Seconds of a block, after it."""

    seconds = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Time a block."""
    watch, start = Stopwatch(), time.monotonic()
    yield watch
    watch.seconds = time.monotonic() - start


class BenchCloud:
    """One cloud in a home of its own."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="pilvi-bench-", dir="/var/lib"))
        self.home.chmod(0o755)
        self._environment = {**os.environ, "PILVI_HOME": str(self.home), "KUBECONFIG": f"{self.home}.conf"}
        self._pilvi = str(Path(sys.executable).with_name("pilvi"))

    def pilvi(self, *words: str, stdin: str | None = None) -> str:
        """Run a command of pilvi; what it says on standard error is shown when it fails."""
        done = subprocess.run([self._pilvi, *words], env=self._environment, capture_output=True, text=True, input=stdin, check=False)
        if done.returncode:
            raise RuntimeError(f"pilvi {' '.join(words)}: {done.stderr}")
        return done.stdout

    def get(self, *words: str) -> Any:
        """Objects of the platform."""
        return json.loads(self.pilvi("kubectl", "--", "get", *words, "-o", "json"))

    def create(self, name: str, workers: int) -> dict[str, float]:
        """Create a cluster; seconds until its API answers (`api`) and until nodes and DNS are ready (`ready`)."""
        start = time.monotonic()
        self.pilvi("cluster", "create", name, "--workers", str(workers), "--no-wait")
        wait(lambda: self._tenant_is_ready(name))
        api = time.monotonic() - start
        wait(lambda: len(self._ready_nodes(name)) == workers)
        self.pilvi(
            "kubectl",
            "--cluster",
            name,
            "--",
            "-n",
            "kube-system",
            "wait",
            "deployment/coredns",
            "--for=condition=Available",
            "--timeout=300s",
        )
        return {"api": api, "ready": time.monotonic() - start}

    def pod_start_s(self, cluster: str) -> float:
        """Seconds from the request until a pod of an image that is on the node runs."""
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bench"}, "spec": {"containers": [{"name": "c", "image": PAUSE}]}}
        wait(lambda: self.pilvi("kubectl", "--cluster", cluster, "--", "get", "serviceaccount", "default", "--ignore-not-found"))
        with stopwatch() as watch:
            self.pilvi("kubectl", "--cluster", cluster, "--", "apply", "-f", "-", stdin=json.dumps(pod))
            self.pilvi(
                "kubectl", "--cluster", cluster, "--", "wait", "pod/bench", "--for=jsonpath={.status.phase}=Running", "--timeout=120s"
            )
        return watch.seconds

    def limit_memory(self, limit_bytes: int) -> None:
        """Give all units together that much memory, page cache included; more ends the run by the kernel's hand."""
        for name in ("memory.limit_in_bytes", "memory.max"):
            file = self._memory_file(name)
            if file is not None:
                file.write_text(str(limit_bytes))

    def most_memory_bytes(self) -> float:
        """The most that all units together have used since the limit was set, page cache included."""
        file = self._memory_file("memory.max_usage_in_bytes") or self._memory_file("memory.peak")
        return float(file.read_text()) if file else float("nan")

    def control_plane_bytes(self) -> float:
        """Proportional memory of the four units of the tenant."""
        return float(sum(self._proportional(unit) for unit in self._units() if unit["name"].startswith("cp-")))

    def worker_bytes(self) -> float:
        """Memory of one machine without page cache."""
        machines = [unit["memoryBytes"] for unit in self._units() if unit["name"].startswith("m-")]
        return sum(machines) / len(machines)

    def engine_memory_bytes(self) -> int:
        """Resident memory of the engine."""
        return next(int(line.split()[1]) * 1024 for line in self._engine("status").splitlines() if line.startswith("VmRSS"))

    def engine_idle_percent(self) -> float:
        """CPU of the engine over some seconds in which nobody asks for anything, in percent of one core."""
        before = self._engine_ticks()
        time.sleep(IDLE_S)
        return (self._engine_ticks() - before) / os.sysconf("SC_CLK_TCK") / IDLE_S * 100

    def purge(self) -> None:
        """Remove the cloud."""
        self.pilvi("down", "--purge", "--yes")
        shutil.rmtree(self.home, ignore_errors=True)
        Path(f"{self.home}.conf").unlink(missing_ok=True)

    def _tenant_is_ready(self, name: str) -> bool:
        found = self.get("tenantcontrolplanes")
        tenants = found.get("items", [])
        return any(
            tenant["metadata"]["name"] == name
            and tenant.get("status", {}).get("kubernetesResources", {}).get("version", {}).get("status") == "Ready"
            for tenant in tenants
        )

    def _ready_nodes(self, cluster: str) -> list[str]:
        nodes = json.loads(self.pilvi("kubectl", "--cluster", cluster, "--", "get", "nodes", "-o", "json"))["items"]
        return [
            node["metadata"]["name"]
            for node in nodes
            if any(found["type"] == "Ready" and found["status"] == "True" for found in node["status"].get("conditions", []))
        ]

    def _units(self) -> list[dict[str, Any]]:
        return list(json.loads(self.pilvi("status", "-o", "json"))["units"])

    def _proportional(self, unit: dict[str, Any]) -> int:
        text = Path(f"/proc/{unit['pid']}/smaps_rollup").read_text()
        return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))

    def _memory_file(self, name: str) -> Path | None:
        group = get_cloud(self.home).cgroup_root
        found = [path for root in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup") if (path := Path(root, group, name)).exists()]
        return found[0] if found else None

    def _engine(self, file: str) -> str:
        engine = find_engine(get_cloud(self.home))
        if engine is None:
            raise RuntimeError("the engine does not run")
        return Path(f"/proc/{engine.process.pid}/{file}").read_text()

    def _engine_ticks(self) -> int:
        fields = self._engine("stat").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])


def wait(predicate: Any) -> None:
    """Wait until it is true; a command that fails meanwhile is not."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if predicate():
                return
        except RuntimeError:
            pass
        time.sleep(0.1)
    raise TimeoutError("the cloud did not get ready")
