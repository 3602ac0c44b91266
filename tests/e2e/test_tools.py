"""The tools that people use around a cluster: all of them on one small cluster and on clouds that are not well."""

import base64
import json
import os
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pilvi import kit
from tests.e2e.cloud import PILVI, VERSION, CloudUnderTest, cluster_manifest, run, to_yaml, wait_until
from tests.e2e.host import kill_engine

UNIT_FIELDS = {"name", "pid", "state", "memoryBytes", "cause"}
CLUSTER_FIELDS = {"namespace", "name", "version", "ready", "nodes", "cause"}
MACHINE_FIELDS = {"namespace", "name", "backend", "fidelity", "phase", "addresses", "cause"}
HOST_FIELDS = {"name", "ready", "cpu", "memory", "cause"}


@pytest.fixture(scope="module")
def tools(shared_cloud: CloudUnderTest, module_namespace: str) -> str:
    """A cluster of one worker, made by the command line; `NAMESPACE/NAME`."""
    cluster = f"{module_namespace}/tools"
    shared_cloud.up()  # changes nothing, and merges the platform's context
    printed = shared_cloud.pilvi("cluster", "create", cluster, "--workers", "1").stdout
    for phase in ("network", "etcd", "API", "join", "Ready", "DNS", "in all"):
        assert phase in printed, "the time line has a bar for each phase"
    shared_cloud.kubeconfig(cluster)  # kept, since the platform will not always answer
    return cluster


def test_merged_contexts_with_plain_kubectl(cloud: CloudUnderTest, tools: str) -> None:
    document = yaml.safe_load(cloud.user_kubeconfig.read_text())
    contexts = {context["name"] for context in document["contexts"]}
    platform = f"pilvi-{cloud.status()['cloud']['id']}"
    assert {platform, f"{platform}/{tools}"} <= contexts
    assert document["current-context"] == f"{platform}/{tools}", "the cluster that was made last"
    assert cloud.user_kubeconfig.stat().st_mode & 0o077 == 0
    kubectl = [str(kit.get_binary("kubectl")), "get", "-o", "name"]
    assert len(run([*kubectl, "nodes"], env=cloud.environment).stdout.split()) == 1
    assert "cluster.cluster.x-k8s.io/tools" in run([*kubectl, "clusters", "-A", "--context", platform], env=cloud.environment).stdout


def test_clusterctl_describes_the_cluster(cloud: CloudUnderTest, tools: str) -> None:
    namespace, name = tools.split("/")
    printed = cloud.pilvi("clusterctl", "--", "describe", "cluster", "-n", namespace, name, "--show-conditions=all").stdout
    for words in (f"Cluster {tools}", "KubevirtCluster", "KamajiControlPlane", "MachineDeployment", "TopologyReconciled", "NodeHealthy"):
        assert words in printed
    kubeconfig = cloud.pilvi("clusterctl", "--", "get", "kubeconfig", "-n", namespace, name).stdout
    assert yaml.safe_load(kubeconfig)["clusters"][0]["name"] == name


def test_strict_validation_and_server_side_apply(cloud: CloudUnderTest, module_namespace: str) -> None:
    """As kubectl, helm and GitOps tools apply: several managers, one object; misspelt fields are named; nulls are nothing."""
    subnet = {"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": "applied"}, "spec": {"cidrBlock": "10.77.1.0/24"}}
    misspelt = {**subnet, "spec": {"cidrBlock": "10.77.1.0/24", "gatewey": "10.77.1.1"}}
    assert 'unknown field "spec.gatewey"' in cloud.refused(misspelt)
    apply = ["apply", "--server-side", "-f", "-"]
    try:
        assert "serverside-applied" in cloud.kubectl(*apply, "--field-manager=helm", manifest=subnet)
        assert "serverside-applied" in cloud.kubectl(*apply, "--field-manager=helm", manifest=subnet)
        changed = {**subnet, "spec": {"cidrBlock": "10.77.2.0/24"}}
        conflict = cloud.kubectl(*apply, "--field-manager=flux", manifest=changed, check=False)
        assert "conflict" in conflict
        assert "helm" in conflict
        again = cloud.kubectl("diff", "--server-side", "--field-manager=helm", "-f", "-", manifest=subnet)
        assert again == "", "what was applied is what is stored"
    finally:
        cloud.kubectl("delete", "subnet", "applied")
    nulls = cluster_manifest("nulls", module_namespace, workers=0, clusterNetwork=None, controlPlaneRef=None)
    nulls["metadata"]["labels"] = nulls["spec"]["topology"]["variables"] = None
    assert "created (server dry run)" in cloud.kubectl("apply", "--dry-run=server", "-f", "-", manifest=nulls)
    without_v = cluster_manifest("plain", module_namespace, workers=0, version=VERSION.removeprefix("v"))
    assert "created (server dry run)" in cloud.kubectl("apply", "--dry-run=server", "-f", "-", manifest=without_v)
    dry_run = cloud.pilvi("cluster", "create", f"{module_namespace}/dry", "--dry-run", "-o", "yaml").stdout
    assert "created (server dry run)" in cloud.kubectl("apply", "--dry-run=server", "-f", "-", manifest=dry_run)


def test_status_document(cloud: CloudUnderTest, tools: str) -> None:
    namespace, name = tools.split("/")
    status = cloud.status()
    assert {"cloud", "engine", "api", "units", "hosts", "clusters", "machines"} <= status.keys()
    assert set(status["engine"]) == {"pid", "version"}
    for field, wanted in (("units", UNIT_FIELDS), ("hosts", HOST_FIELDS), ("clusters", CLUSTER_FIELDS), ("machines", MACHINE_FIELDS)):
        assert status[field], field
        assert all(wanted <= entry.keys() for entry in status[field])
    (cluster,) = (entry for entry in status["clusters"] if entry["namespace"] == namespace)
    assert (cluster["name"], cluster["version"], cluster["ready"], cluster["nodes"], cluster["cause"]) == (name, VERSION, True, "1/1", "")
    assert yaml.safe_load(cloud.pilvi("status", "-o", "yaml").stdout)["cloud"] == status["cloud"]
    listed = json.loads(cloud.pilvi("cluster", "list", "-n", namespace, "-o", "json").stdout)
    assert [entry["name"] for entry in listed] == [name]
    described = cloud.pilvi("cluster", "describe", tools).stdout
    assert "1/1 Ready" in described
    assert "is ready" in described


def test_why(cloud: CloudUnderTest, module_namespace: str, tools: str) -> None:
    assert "is ready" in cloud.pilvi("why", f"cluster/{tools}").stdout
    assert "no kind that can be explained" in cloud.pilvi("why", f"pizza/{tools}", check=False).stderr
    assert "there is no Cluster" in cloud.pilvi("why", f"cluster/{module_namespace}/gone", check=False).stderr
    machine = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "lost", "namespace": module_namespace, "annotations": {"ovn.kubernetes.io/logical_switch": "nowhere"}},
        "spec": {
            "runStrategy": "Always",
            "template": {
                "metadata": {"annotations": {"ovn.kubernetes.io/logical_switch": "nowhere"}},
                "spec": {
                    "domain": {"memory": {"guest": "512Mi"}, "devices": {}},
                    "volumes": [{"name": "root", "containerDisk": {"image": f"pilvi.dev/node:{VERSION}"}}],
                },
            },
        },
    }
    cloud.apply(machine)
    try:
        wait_until(
            lambda: "nowhere" in cloud.pilvi("why", f"vm/{module_namespace}/lost").stdout, "`pilvi why` to name the missing Subnet", 60
        )
        timed_out = cloud.pilvi("cluster", "create", f"{module_namespace}/slow", "--workers", "0", "--timeout", "0.5", check=False)
        assert timed_out.returncode == 3
        assert f"Cluster {module_namespace}/slow is not ready" in timed_out.stderr, "a time-out says why"
    finally:
        cloud.pilvi("cluster", "delete", f"{module_namespace}/slow", "--yes", "--no-wait", check=False)
        cloud.kubectl("-n", module_namespace, "delete", "vm", "lost")


def test_report_has_no_secrets(cloud: CloudUnderTest, tools: str, tmp_path: Path) -> None:
    namespace, name = tools.split("/")
    archive = tmp_path / "report.tar.gz"
    cloud.pilvi("report", str(archive))
    assert archive.stat().st_mode & 0o077 == 0
    with tarfile.open(archive) as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar.getmembers() if member.isfile()}  # type: ignore[union-attr]
    whole = b"".join(content.values())
    values = [value for secret in cloud.items("secrets", "-A") for value in (secret.get("data") or {}).values() if len(value) > 40]
    secret = [value for value in values if not base64.b64decode(value).startswith((b"-----BEGIN CERTIFICATE", b"-----BEGIN PUBLIC"))]
    assert len(secret) > 10
    assert not [value for value in secret if value.encode() in whole or base64.b64decode(value) in whole]
    assert b"PRIVATE KEY" not in whole
    names = " ".join(content)
    for part in (
        "status.json",
        "objects/secrets.yaml",
        "objects/clusters",
        f"clusters/{namespace}/{name}/nodes",
        "logs/engine.log",
        "network/host.txt",
    ):
        assert part in names
    assert b"(left out)" in content["pilvi-report/objects/secrets.yaml"]


@pytest.fixture
def unwell(cloud: CloudUnderTest, tools: str) -> Iterator[None]:
    """First the engine dies for good, then the platform's API server stops to answer; at the end `pilvi up` mends both."""
    kill_engine(cloud, for_good=True)
    server = cloud.units()["plane-kube-apiserver"]
    assert server is not None
    try:
        os.kill(server, signal.SIGSTOP)
        yield
    finally:
        os.kill(server, signal.SIGCONT)
        cloud.up()


def test_a_dead_engine_and_a_dead_api(cloud: CloudUnderTest, tools: str, unwell: None, tmp_path: Path) -> None:
    status = cloud.status()
    assert status["engine"]["pid"] is None
    assert status["api"], "it says why the API does not answer"
    assert any(unit["name"] == "plane-kube-apiserver" and unit["pid"] for unit in status["units"])
    printed = cloud.pilvi("status").stdout
    assert "does not run; sudo pilvi up starts it" in printed
    assert cloud.pilvi("report", str(tmp_path / "report.tar.gz")).returncode == 0
    assert cloud.ready_nodes(tools), "the cluster needs neither"


def test_run_in_a_throw_away_cloud(tmp_path: Path) -> None:
    """`pilvi run`: a cloud of its own, the manifests, the command, its exit code; nothing of the cloud is left."""
    manifest = tmp_path / "namespace.yaml"
    manifest.write_text(to_yaml({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "asked-for"}}))
    script = f'"{kit.get_binary("kubectl")}" get namespace asked-for -o name && echo "home $PILVI_HOME" && exit 7'
    kubeconfig = tmp_path / "config"
    argv = [str(PILVI), "run", "-f", str(manifest), "--", "sh", "-c", script]
    done = run(argv, env={**os.environ, "KUBECONFIG": str(kubeconfig)}, check=False, timeout_s=600)
    assert "namespace/asked-for" in done.stdout
    assert done.returncode == 7, done.stderr
    home = Path(done.stdout.partition("home ")[2].strip())
    assert home.parent == Path("/var/lib")
    assert not home.exists()
    assert not kubeconfig.exists(), "the user's own contexts are not touched"
