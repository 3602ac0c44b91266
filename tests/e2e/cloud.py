"""A real cloud for the scenarios, driven as a user drives it: by the command line, kubectl and manifests."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")
REPOSITORY = Path(__file__).parents[2]
PILVI = REPOSITORY / ".venv" / "bin" / "pilvi"
REPORTS = REPOSITORY / "reports"

# The machine that runs the tests may be busy with other things: deadlines catch what hangs, they judge no speed.
PATIENCE_S = 240.0


def wait_until(predicate: Callable[[], T], what: str, timeout_s: float = PATIENCE_S, interval_s: float = 0.3) -> T:
    """Return the first truthy answer of `predicate`; fail with `what` and the last answer or error."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            answer = predicate()
        except (subprocess.CalledProcessError, KeyError, IndexError, StopIteration) as e:
            last = f"{e}\n{getattr(e, 'stderr', '')}"
        else:
            if answer:
                return answer
            last = answer
        time.sleep(interval_s)
    raise AssertionError(f"waited {timeout_s:.0f} s for {what}; last seen: {last}")


class CloudUnderTest:
    """One cloud in a home of its own, and kubectl on it and on its clusters."""

    def __init__(self, name: str) -> None:
        # Below /var/lib and not below a temporary folder of pytest: units with uids of their own have to reach it.
        self.home = Path(tempfile.mkdtemp(prefix=f"pilvi-test-{name}-", dir="/var/lib"))
        self.home.chmod(0o755)
        self.kubeconfig = self.home / "user.conf"
        self.environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PILVI_HOME": str(self.home)}

    def pilvi(self, *words: str, check: bool = True, timeout_s: float = 600, **fields: Any) -> subprocess.CompletedProcess[str]:
        """Run `pilvi` as the user of this cloud."""
        return run([str(PILVI), *words], env=self.environment, check=check, timeout_s=timeout_s, **fields)

    def up(self, *words: str) -> None:
        """`pilvi up`."""
        self.pilvi("up", *words)

    def kubectl(self, *words: str, cluster: str | None = None, check: bool = True, manifest: object = None, timeout_s: float = 120) -> str:
        """kubectl on the platform, or on `cluster` ([NAMESPACE/]NAME); `manifest` (object, list of objects, or YAML text) is its stdin."""
        where = ["--cluster", cluster] if cluster else []
        text = manifest if isinstance(manifest, str) or manifest is None else yaml.safe_dump_all(as_list(manifest))
        done = self.pilvi("kubectl", *where, "--", *words, check=check, timeout_s=timeout_s, input=text)
        return done.stdout if check else done.stdout + done.stderr

    def apply(self, manifest: object, *, namespace: str | None = None, cluster: str | None = None) -> str:
        """kubectl apply."""
        where = ["-n", namespace] if namespace else []
        return self.kubectl(*where, "apply", "-f", "-", manifest=manifest, cluster=cluster)

    def get(self, *words: str, cluster: str | None = None) -> Any:
        """kubectl get, decoded."""
        return json.loads(self.kubectl("get", *words, "-o", "json", cluster=cluster))

    def items(self, *words: str, cluster: str | None = None) -> list[Any]:
        """The items of kubectl get."""
        return list(self.get(*words, cluster=cluster)["items"])

    def ready_nodes(self, cluster: str) -> list[str]:
        """Names of the ready nodes of a cluster."""
        return [node["metadata"]["name"] for node in self.items("nodes", cluster=cluster) if is_true(node, "Ready")]

    def status(self) -> Any:
        """`pilvi status -o json`."""
        return json.loads(self.pilvi("status", "-o", "json").stdout)

    def purge(self) -> None:
        """`pilvi down --purge`, which proves by itself that nothing is left."""
        self.pilvi("down", "--purge", "--yes")
        shutil.rmtree(self.home, ignore_errors=True)

    def report(self, name: str) -> None:
        """Keep a report archive of a failure."""
        REPORTS.mkdir(exist_ok=True)
        self.pilvi("report", str(REPORTS / f"{name}.tar.gz"), check=False, timeout_s=120)


def as_list(manifest: object) -> list[object]:
    return list(manifest) if isinstance(manifest, (list, tuple)) else [manifest]


def is_true(obj: Any, condition: str) -> bool:
    """Whether an object has this condition with status True."""
    return any(found["type"] == condition and found["status"] == "True" for found in obj.get("status", {}).get("conditions", []))


def run(
    argv: list[str], *, env: dict[str, str] | None = None, check: bool = True, timeout_s: float = 120, input: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command; a failure shows what it printed."""
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=timeout_s, input=input, check=False)
    if check and done.returncode:
        raise subprocess.CalledProcessError(done.returncode, argv, done.stdout, f"{done.stdout}{done.stderr}")
    return done


@contextmanager
def cloud_of_its_own(name: str, *up_words: str) -> Iterator[CloudUnderTest]:
    """A cloud that is up, and purged at the end; for scenarios that kill, purge or double the plane."""
    cloud = CloudUnderTest(name)
    try:
        cloud.up(*up_words)
        yield cloud
    except BaseException:
        cloud.report(name)
        raise
    finally:
        cloud.purge()


def cluster_manifest(name: str, namespace: str, *, workers: int = 2, version: str = "v1.37.2", **network: list[str]) -> dict[str, Any]:
    """A Cluster by topology of pilvi's ClusterClass; `network` is `pods=[...]`, `services=[...]`."""
    spec: dict[str, Any] = {
        "topology": {
            "classRef": {"name": "pilvi", "namespace": "pilvi-system"},
            "version": version,
            "workers": {"machineDeployments": [{"class": "default-worker", "name": "workers", "replicas": workers}]},
        }
    }
    if network:
        spec["clusterNetwork"] = {kind: {"cidrBlocks": blocks} for kind, blocks in network.items()}
    return {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": {"name": name, "namespace": namespace}, "spec": spec}
