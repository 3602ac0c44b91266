"""A real cloud for the scenarios, driven as a user drives it: by the command line, kubectl and manifests."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pilvi import kit

T = TypeVar("T")
REPOSITORY = Path(__file__).parents[2]
PILVI = REPOSITORY / ".venv" / "bin" / "pilvi"
REPORTS = REPOSITORY / "reports"
VERSION = kit.kubernetes_versions()[-1]

# The machine that runs the tests may be busy with other things: deadlines catch what hangs, they judge no speed.
PATIENCE_S = 240.0
INTERVAL_S = 0.5


class CommandError(Exception):
    """A command ended with another exit code than 0; its text shows what it printed."""

    def __init__(self, argv: Iterable[str], done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"exit code {done.returncode} of {' '.join(argv)}\n{done.stdout}{done.stderr}")
        self.code = done.returncode
        self.stderr = done.stderr


def wait_until(
    predicate: Callable[[], T], what: str | Callable[[], str], timeout_s: float = PATIENCE_S, interval_s: float = INTERVAL_S
) -> T:
    """Return the first truthy answer of `predicate`; fail with `what` (a function is asked at the end) and the last answer or error."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            answer = predicate()
        except (CommandError, LookupError, StopIteration, FileNotFoundError) as e:
            last = repr(e)
        else:
            if answer:
                return answer
            last = answer
        time.sleep(interval_s)
    raise AssertionError(f"waited {timeout_s:.0f} s for {what if isinstance(what, str) else what()}; last seen: {last}")


def run(
    argv: list[str],
    *,
    env: dict[str, str] | None = None,
    check: bool = True,
    timeout_s: float = 120,
    stdin: str | bytes | Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. `stdin` is text, bytes, or a file. Raises CommandError."""
    if isinstance(stdin, Path):
        with stdin.open("rb") as file:
            done = subprocess.run(argv, env=env, capture_output=True, timeout=timeout_s, stdin=file, check=False)
    else:
        data = stdin.encode() if isinstance(stdin, str) else stdin or b""
        done = subprocess.run(argv, env=env, capture_output=True, timeout=timeout_s, input=data, check=False)
    text = subprocess.CompletedProcess(argv, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    if check and done.returncode:
        raise CommandError(argv, text)
    return text


class CloudUnderTest:
    """One cloud in a home of its own, and kubectl on it and on its clusters.

    Clusters are named `NAMESPACE/NAME`.
    """

    def __init__(self, name: str, home: Path | None = None) -> None:
        # Below /var/lib and not below a temporary folder of pytest: units with uids of their own have to reach it.
        self.home = home or Path(tempfile.mkdtemp(prefix=f"pilvi-test-{name}-", dir="/var/lib"))
        self.home.chmod(0o755)
        self.user_folder = Path(tempfile.mkdtemp(prefix=f"pilvi-user-{name}-"))
        self.user_kubeconfig = self.user_folder / "config"
        self.environment = {**os.environ, "KUBECONFIG": str(self.user_kubeconfig), "PILVI_HOME": str(self.home)}
        self._kubectl = str(kit.get_binary("kubectl"))
        self.manifest = Path(os.devnull)
        self.summary = ""

    def first_up(self, manifest: Path) -> None:
        """`pilvi up -f`, as a first user types it; what it printed is kept in `summary`."""
        self.manifest = manifest
        done = self.pilvi("up", "-f", str(manifest))
        self.summary = done.stdout + done.stderr

    def pilvi(
        self, *words: str, check: bool = True, timeout_s: float = 600, stdin: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `pilvi` as the user of this cloud."""
        return run([str(PILVI), *words], env={**self.environment, **environment}, check=check, timeout_s=timeout_s, stdin=stdin)

    def up(self, *words: str) -> None:
        """`pilvi up`."""
        self.pilvi("up", *words)

    def status(self) -> Any:
        """`pilvi status -o json`."""
        return json.loads(self.pilvi("status", "-o", "json").stdout)

    def kubeconfig(self, cluster: str | None = None) -> Path:
        """The administrator's kubeconfig of the platform, or of a cluster, which is fetched once."""
        if cluster is None:
            return self.home / "admin.conf"
        path = self.user_folder / f"{cluster.replace('/', '_')}.conf"
        if not path.exists():
            path.write_text(self.pilvi("cluster", "kubeconfig", cluster).stdout)
        return path

    def kubectl_argv(self, *words: str, cluster: str | None = None) -> list[str]:
        """The command that `kubectl` runs."""
        return [self._kubectl, "--kubeconfig", str(self.kubeconfig(cluster)), *words]

    def kubectl(self, *words: str, cluster: str | None = None, check: bool = True, manifest: object = None, timeout_s: float = 120) -> str:
        """kubectl on the platform, or on `cluster`; `manifest` (object, list of objects, or YAML text) is its stdin.

        Returns what it printed; without `check` also what it printed on standard error.
        """
        text = manifest if isinstance(manifest, str) or manifest is None else to_yaml(manifest)
        done = run(self.kubectl_argv(*words, cluster=cluster), env=self.environment, check=check, timeout_s=timeout_s, stdin=text)
        return done.stdout if check else done.stdout + done.stderr

    def apply(self, manifest: object, *, namespace: str | None = None, cluster: str | None = None) -> str:
        """kubectl apply."""
        where = ["-n", namespace] if namespace else []
        return self.kubectl(*where, "apply", "-f", "-", manifest=manifest, cluster=cluster)

    def refused(self, manifest: object, *, namespace: str | None = None, cluster: str | None = None) -> str:
        """What kubectl apply prints about a manifest that must not be taken."""
        where = ["-n", namespace] if namespace else []
        try:
            printed = self.kubectl(*where, "apply", "-f", "-", manifest=manifest, cluster=cluster)
        except CommandError as e:
            return e.stderr
        raise AssertionError(f"this was taken: {printed}\n{to_yaml(manifest)}")

    def get(self, *words: str, cluster: str | None = None) -> Any:
        """kubectl get, decoded."""
        return json.loads(self.kubectl("get", *words, "-o", "json", cluster=cluster))

    def items(self, *words: str, cluster: str | None = None) -> list[Any]:
        """The items of kubectl get."""
        return list(self.get(*words, cluster=cluster)["items"])

    def exists(self, *words: str, cluster: str | None = None) -> bool:
        """Whether kubectl get finds it."""
        return bool(self.kubectl("get", "--ignore-not-found", "-o", "name", *words, cluster=cluster).strip())

    def ready_nodes(self, cluster: str) -> list[str]:
        """Names of the ready nodes of a cluster."""
        return [node["metadata"]["name"] for node in self.items("nodes", cluster=cluster) if is_true(node, "Ready")]

    def wait_for_cluster(self, cluster: str, workers: int) -> list[str]:
        """Wait until the cluster is Available with exactly that many ready workers and DNS; returns the nodes' names."""
        namespace, name = cluster.split("/")
        kubeconfig = ("-n", namespace, "secret", f"{name}-kubeconfig")
        wait_until(lambda: self.exists(*kubeconfig), f"the kubeconfig of cluster {cluster}")

        def ready() -> list[str]:
            nodes = self.ready_nodes(cluster)
            return nodes if len(nodes) == workers == len(self.items("nodes", cluster=cluster)) else []

        nodes = wait_until(ready, f"{workers} ready workers of cluster {cluster}")
        wait_until(
            lambda: is_true(self.get("-n", "kube-system", "deployment", "coredns", cluster=cluster), "Available"),
            f"DNS of cluster {cluster}",
        )
        wait_until(lambda: is_true(self.get("-n", namespace, "cluster", name), "Available"), f"cluster {cluster} to be Available")
        return nodes

    def units(self) -> dict[str, int | None]:
        """Names and pids of the cloud's units."""
        return {unit["name"]: unit["pid"] for unit in self.status()["units"]}

    def report(self, name: str) -> None:
        """Keep a report archive of a failure."""
        REPORTS.mkdir(exist_ok=True)
        self.pilvi("report", str(REPORTS / f"{name}.tar.gz"), check=False, timeout_s=120)

    def purge(self) -> None:
        """`pilvi down --purge`, which proves by itself that nothing is left."""
        self.pilvi("down", "--purge", "--yes")
        self.discard()

    def discard(self) -> None:
        """Remove what the test itself has made."""
        shutil.rmtree(self.user_folder, ignore_errors=True)
        shutil.rmtree(self.home, ignore_errors=True)


def cluster_manifest(name: str, namespace: str, *, workers: int = 2, version: str = VERSION, **spec: Any) -> dict[str, Any]:
    """A Cluster by topology of pilvi's ClusterClass; `spec` adds fields such as `clusterNetwork`."""
    topology = {
        "classRef": {"name": "pilvi", "namespace": "pilvi-system"},
        "version": version,
        "workers": {"machineDeployments": [{"class": "default-worker", "name": "workers", "replicas": workers}]},
    }
    return {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Cluster",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"topology": topology, **spec},
    }


def is_true(obj: Any, condition: str) -> bool:
    """Whether an object has this condition with status True."""
    return (find_condition(obj, condition) or {}).get("status") == "True"


def find_condition(obj: Any, condition: str) -> Any:
    """The condition of that type, or None."""
    return next((found for found in obj.get("status", {}).get("conditions") or [] if found["type"] == condition), None)


def to_yaml(manifest: object) -> str:
    """One object, or a list of them, as a YAML stream."""
    return str(yaml.safe_dump_all(list(manifest) if isinstance(manifest, list | tuple) else [manifest]))
