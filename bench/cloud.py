"""The cloud that is measured: driven by the command line as a user drives it, looked at by watches, which cost nothing while they wait."""

import json
import os
import re
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.floor.probe import Api, is_ready, wait
from pilvi.engine.process import find_engine
from pilvi.host.cgroups import get_cgroups
from pilvi.host.cloud import get_cloud
from pilvi.host.netns import NETNS_DIR
from pilvi.host.qemu.tracking import promised_bytes

IDLE_S = 60.0
SETTLE_S = 15.0
PAUSE = "registry.k8s.io/pause:3.10.2"
TENANTS = "/apis/kamaji.clastix.io/v1alpha1/tenantcontrolplanes"
INSTANCES = "/apis/kubevirt.io/v1/virtualmachineinstances"
_ESTABLISHED = "01"


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

    def __init__(self, home: Path) -> None:
        self.home = home
        self._environment = {**os.environ, "PILVI_HOME": str(self.home), "KUBECONFIG": f"{self.home}.conf"}
        self._command = str(Path(sys.executable).with_name("pilvi"))

    def pilvi(self, *words: str, stdin: str | None = None) -> str:
        """Run a command of pilvi; what it says on standard error is shown when it fails."""
        done = subprocess.run([self._command, *words], env=self._environment, capture_output=True, text=True, input=stdin, check=False)
        if done.returncode:
            raise RuntimeError(f"pilvi {' '.join(words)}: {done.stderr}")
        return done.stdout

    def up(self, *words: str) -> float:
        """Start the cloud; seconds of the command."""
        with stopwatch() as watch:
            self.pilvi("up", *words)
        self.kubeconfig = self.home / "bench.conf"
        self.kubeconfig.write_text(self.pilvi("kubeconfig"))
        self.platform = Api(self.kubeconfig.read_text())
        return watch.seconds

    def create(self, name: str, workers: int) -> dict[str, float]:
        """Create a cluster; seconds until its API answers (`api`) and until the command ends, with nodes Ready and DNS up (`ready`)."""
        api, ready = self._timed(("cluster", "create", name, "--workers", str(workers)), lambda: self._wait_tenant(name))
        return {"api": api, "ready": ready}

    def _timed(self, words: tuple[str, ...], meanwhile: Callable[[], None]) -> tuple[float, float]:
        """Run a command; seconds until `meanwhile`, which waits for something beside it, returns, and until the command ends."""
        start = time.monotonic()
        command = [self._command, *words]
        with subprocess.Popen(command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            try:
                meanwhile()
                seen = time.monotonic() - start
                _, complaint = process.communicate()
                ended = time.monotonic() - start
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise RuntimeError(f"pilvi {' '.join(words)}: {complaint}")
        return seen, ended

    def create_plane(self, name: str, version: str) -> float:
        """Apply a TenantControlPlane alone; seconds until its status says Ready and its API answers. It is deleted afterwards."""
        tenant = {
            "apiVersion": "kamaji.clastix.io/v1alpha1",
            "kind": "TenantControlPlane",
            "metadata": {"name": name},
            "spec": {
                "controlPlane": {"deployment": {"replicas": 1}, "service": {"serviceType": "LoadBalancer"}},
                "kubernetes": {"version": version, "kubelet": {}},
                "addons": {"coreDNS": {}, "kubeProxy": {}},
            },
        }
        with stopwatch() as watch:
            self.pilvi("kubectl", "--", "apply", "-f", "-", stdin=json.dumps(tenant))
            self._wait_tenant(name)
        self.pilvi("kubectl", "--", "delete", f"tcp/{name}", "--timeout=120s")
        return watch.seconds

    def scale(self, name: str, workers: int) -> dict[str, float]:
        """Seconds of `pilvi cluster scale` until the last node is Ready (`added`), and until Cluster API has counted it (`counted`)."""
        api, ready = self._tenant(name), set()

        def is_last(node: dict[str, Any]) -> bool:
            conditions = node.get("status", {}).get("conditions", [])
            if any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions):
                ready.add(node["metadata"]["name"])
            return len(ready) == workers

        words = ("cluster", "scale", name, "--workers", str(workers))
        added, counted = self._timed(words, lambda: wait_for_object(api, "/api/v1/nodes", is_last))
        return {"added": added, "counted": counted}

    def delete(self, name: str) -> float:
        """Seconds of `pilvi cluster delete`; raises RuntimeError when a process of it is left then."""
        with stopwatch() as watch:
            self.pilvi("cluster", "delete", name, "--yes")
        if left := [unit["name"] for unit in self._units("cp-", "m-")]:
            raise RuntimeError(f"the cluster is gone, and left {left}")
        return watch.seconds

    def pod_start_s(self, cluster: str, name: str) -> float:
        """Seconds from `kubectl apply` until a pod of an image that is on the node runs."""
        api = self._tenant(cluster)
        wait(lambda: api.find("/api/v1/namespaces/default/serviceaccounts/default") is not None)
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": PAUSE}]}}
        with stopwatch() as watch:
            self.pilvi("kubectl", "--cluster", cluster, "--", "apply", "-f", "-", stdin=json.dumps(pod))
            wait_for_object(
                api, "/api/v1/namespaces/default/pods", lambda found: found["metadata"]["name"] == name and _phase(found) == "Running"
            )
        return watch.seconds

    def start_machines(self, number: int, image: str) -> None:
        """So many machines of the node image that nothing is told to; returns when all run."""
        machine = {
            "runStrategy": "Always",
            "template": {
                "spec": {
                    "domain": {"devices": {}, "memory": {"guest": "64Mi"}, "resources": {"requests": {"cpu": "5m"}}},
                    "volumes": [{"name": "root", "containerDisk": {"image": image}}],
                }
            },
        }
        machines = [
            {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": f"idle-{index}"}, "spec": machine}
            for index in range(number)
        ]
        self.pilvi("kubectl", "--", "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": machines}))
        running: set[str] = set()

        def all_run(found: dict[str, Any]) -> bool:
            if _phase(found) == "Running":
                running.add(found["metadata"]["name"])
            return len(running) == number

        wait_for_object(self.platform, INSTANCES, all_run)

    def wait_memory_seen(self, before: str) -> None:
        """Wait until the node that stands for the host offers other memory than `before`, after a change of the limit."""
        wait(lambda: self.offered_memory() != before)

    def offered_memory(self) -> str:
        """What the host offers to machines."""
        return ",".join(node["status"].get("allocatable", {}).get("memory", "") for node in self.platform.items("/api/v1/nodes"))

    def control_plane_bytes(self) -> float:
        """Proportional memory of the four units of the one tenant, programs' pages included."""
        return float(sum(_memory(unit["pid"], "Pss") for unit in self._units("cp-")))

    def worker_bytes(self) -> float:
        """Memory of one machine: proportional, without pages of files."""
        cloud, cgroups, machines = get_cloud(self.home), get_cgroups(), self._units("m-")
        pids = [pid for unit in machines for pid in cgroups.procs(cloud.cgroup(unit["name"]))]
        return sum(_memory(pid, "Pss_(?:Anon|Shmem)") for pid in pids) / len(machines)

    def engine_bytes(self) -> float:
        """Resident memory of the engine."""
        found = re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{self._engine()}/status").read_text(), re.MULTILINE)
        assert found
        return float(found[1]) * 1024

    def engine_idle_percent(self) -> float:
        """CPU of the engine over a minute in which nobody asks for anything, in percent of one core."""
        clock = (~self._engine() << 3) | 2  # the CPU time of another process in nanoseconds, see clock_getcpuclockid(3)
        before = time.clock_gettime(clock)
        time.sleep(IDLE_S)
        return (time.clock_gettime(clock) - before) / IDLE_S * 100

    def engine_connections(self) -> int:
        """How many connections the engine holds open: nearly all are watches."""
        pid = self._engine()
        sockets = {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()}
        lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
        return sum(fields[3] == _ESTABLISHED and f"socket:[{fields[9]}]" in sockets for fields in lines)

    def netns(self, prefix: str) -> list[str]:
        """The cloud's network namespaces whose names begin so."""
        return sorted(path.name for path in NETNS_DIR.glob(f"{get_cloud(self.home).netns(prefix)}*"))

    def beside_guest_bytes(self, unit: str, guest_bytes: int) -> float:
        """Resident memory of a machine's process without the guest's own, which is its one mapping of that size but for some pages."""
        (pid,) = (found["pid"] for found in self._units(unit))
        total, size = 0, 0
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "Size":
                size = int(rest.split()[0]) * 1024
            elif name == "Rss" and promised_bytes(size) != guest_bytes:
                total += int(rest.split()[0]) * 1024
        return float(total)

    def purge(self) -> None:
        """Remove the cloud."""
        self.pilvi("down", "--purge", "--yes")
        Path(f"{self.home}.conf").unlink(missing_ok=True)

    def _wait_tenant(self, name: str) -> None:
        """Until the TenantControlPlane is Ready, and its API server says so itself by its own kubeconfig."""
        wait_for_object(self.platform, TENANTS, lambda found: found["metadata"]["name"] == name and _tenant_status(found) == "Ready")
        api = self._tenant(name)
        wait(lambda: is_ready(api))

    def _tenant(self, name: str) -> Api:
        secret = self.platform.get(f"/api/v1/namespaces/default/secrets/{name}-admin-kubeconfig")
        return Api(b64decode(secret["data"]["admin.conf"]).decode())

    def _units(self, *prefixes: str) -> list[dict[str, Any]]:
        units = json.loads(self.pilvi("status", "-o", "json"))["units"]
        return [unit for unit in units if unit["name"].startswith(prefixes)]

    def _engine(self) -> int:
        engine = find_engine(get_cloud(self.home))
        if engine is None:
            raise RuntimeError("the engine does not run")
        return engine.process.pid


def wait_for_object(api: Api, path: str, predicate: Callable[[dict[str, Any]], bool]) -> None:
    """Watch until one object makes it true."""
    if not any(predicate(found) for found in api.watch(path)):
        raise TimeoutError(f"{path}: what was waited for did not come")


def _phase(obj: dict[str, Any]) -> str:
    return str(obj.get("status", {}).get("phase", ""))


def _tenant_status(tenant: dict[str, Any]) -> str:
    return str(tenant.get("status", {}).get("kubernetesResources", {}).get("version", {}).get("status", ""))


def _memory(pid: int, names: str) -> int:
    """Bytes of these lines of the process's memory; a process that has just ended has none."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(size) * 1024 for size in re.findall(rf"^{names}:\s+(\d+)", text, re.MULTILINE))
