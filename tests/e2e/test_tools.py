"""The tools that people use around a cluster: all of them on one small cluster and on clouds that are not well."""

import base64
import json
import os
import re
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pilvi import kit
from pilvi.host.cloud import DEFAULT_HOME
from tests.e2e.cloud import PILVI, VERSION, CloudUnderTest, cluster_manifest, run, to_yaml, wait_until
from tests.e2e.host import children_of, command_lines, engine_processes, host_as_before, kill_engine

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


def test_clusterctl_fills_in_a_template(cloud: CloudUnderTest, module_namespace: str, tmp_path: Path) -> None:
    """As templates of providers are used: `clusterctl generate`, then apply."""
    template = to_yaml(cluster_manifest("${CLUSTER_NAME:=filled}", module_namespace))
    file = tmp_path / "template.yaml"
    file.write_text(template.replace("replicas: 2", "replicas: ${WORKERS:=0}"))
    generated = cloud.pilvi("clusterctl", "--", "generate", "yaml", "--from", str(file), WORKERS="3").stdout
    assert yaml.safe_load(generated)["spec"]["topology"]["workers"]["machineDeployments"][0]["replicas"] == 3
    assert "cluster.cluster.x-k8s.io/filled created" in cloud.kubectl("apply", "--dry-run=server", "-f", "-", manifest=generated)


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


CANARY = "canary-3f1c"  # in every planted secret, so that one search finds them all
TOKEN = "canary.0123456789canary"


@pytest.fixture
def planted(cloud: CloudUnderTest, module_namespace: str, tools: str) -> Iterator[list[str]]:
    """Secrets where people put them, on the platform and in a cluster; yields every form in which one of them might leak."""

    def plain(kind: str, name: str, api_version: str = "v1", **fields: object) -> dict[str, object]:
        return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}

    secret = plain("Secret", "planted", stringData={"password": f"{CANARY}-secret"})
    document = yaml.safe_dump({"kind": "Config", "users": [{"name": "me", "user": {"token": f"{CANARY}-kubeconfig"}}]})
    config_map = plain("ConfigMap", "planted", data={"admin.conf": document})
    bootstrap = plain(
        "KubeadmConfigTemplate",
        "planted",
        "bootstrap.cluster.x-k8s.io/v1beta2",
        spec={
            "template": {
                "spec": {
                    "files": [{"path": "/etc/key", "content": f"{CANARY}-file"}],
                    "preKubeadmCommands": [f"echo {CANARY}-command"],
                    "joinConfiguration": {"discovery": {"bootstrapToken": {"token": TOKEN, "apiServerEndpoint": "10.0.0.1:6443"}}},
                }
            }
        },
    )
    volume = {"name": "init", "cloudInitNoCloud": {"userData": f"#cloud-config\n# {CANARY}-user-data"}}
    disk = {"name": "root", "containerDisk": {"image": f"pilvi.dev/node:{VERSION}"}}
    spec = {"domain": {"memory": {"guest": "512Mi"}, "devices": {}}, "volumes": [disk, volume]}
    machine = plain("VirtualMachine", "planted", "kubevirt.io/v1", spec={"runStrategy": "Halted", "template": {"spec": spec}})
    container = {"name": "c", "image": "registry.example/none", "env": [{"name": "KEY", "value": f"{CANARY}-env"}]}
    pod = plain("Pod", "planted", spec={"containers": [container], "nodeSelector": {"nowhere": "true"}})
    # Applied, not created: kubectl keeps a copy of the whole in an annotation.
    platform = [secret, config_map, bootstrap, machine, pod]
    cloud.apply(platform, namespace=module_namespace)
    inside = [config_map, pod]
    cloud.apply(inside, cluster=tools)
    (cloud.home / "logs" / "planted.log").write_text(f"kubeadm join --token {TOKEN}\npassword={CANARY}-log\n")
    try:
        yield [CANARY, TOKEN.partition(".")[2], *(base64.b64encode(f"{CANARY}-{part}".encode()).decode() for part in ("secret", "file"))]
    finally:
        (cloud.home / "logs" / "planted.log").unlink()
        cloud.kubectl("delete", "-f", "-", manifest=inside, cluster=tools)
        cloud.kubectl("-n", module_namespace, "delete", "-f", "-", manifest=platform)


def test_report_has_no_secrets(cloud: CloudUnderTest, module_namespace: str, tools: str, planted: list[str], tmp_path: Path) -> None:
    namespace, name = tools.split("/")
    archive = tmp_path / "report.tar.gz"
    archive.touch(mode=0o644)  # one that is there is made anew
    cloud.pilvi("report", str(archive))
    assert archive.stat().st_mode & 0o077 == 0
    with tarfile.open(archive) as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar.getmembers() if member.isfile()}  # type: ignore[union-attr]
    whole = b"".join(content.values())
    assert not [form for form in planted if form.encode() in whole]
    secrets = [*cloud.items("secrets", "-A"), *cloud.items("secrets", "-A", cluster=tools)]
    real = {form for secret in secrets for key, value in (secret.get("data") or {}).items() for form in _secret_forms(key, value)}
    assert len(real) > 20, "there are keys, kubeconfigs and bootstrap tokens to be left out"
    assert not [form for form in real if form in whole]
    assert b"PRIVATE KEY" not in whole.replace(b"PRIVATE KEY----- (left out)", b"")
    names = " ".join(content)
    for part in (
        "status.json",
        "findings.json",
        "objects/secrets.yaml",
        "objects/clusters",
        f"clusters/{namespace}/{name}/nodes",
        "logs/engine.log",
        "logs/planted.log",
        "network/host.txt",
    ):
        assert part in names
    for part in ("objects/secrets.yaml", "objects/configmaps.yaml", f"clusters/{namespace}/{name}/pods.yaml", "logs/planted.log"):
        assert b"(left out)" in content[f"pilvi-report/{part}"], part


def _secret_forms(key: str, value: str) -> Iterator[bytes]:
    """What of one entry of a Secret nobody may see, in each form in which it is stored; names and addresses in Secrets are not secret."""
    text = base64.b64decode(value)
    if b"PRIVATE KEY" in text:
        yield value.encode()
        yield from (line for line in text.splitlines()[1:-1] if len(line) > 16)
    elif b"client-key-data" in text:
        yield value.encode()
        for user in yaml.safe_load(text)["users"]:
            yield from _secret_forms("client-key-data", user["user"]["client-key-data"])
    elif key == "token-secret":
        yield text


def test_report_without_a_cloud_examines_the_host(tmp_path: Path) -> None:
    archive = tmp_path / "report.tar.gz"
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    environment.pop("PILVI_HOME", None)
    if DEFAULT_HOME.exists():
        pytest.skip(f"this machine has a cloud in {DEFAULT_HOME}")
    run([str(PILVI), "report", str(archive)], env=environment)
    with tarfile.open(archive) as tar:
        member = tar.extractfile("pilvi-report/findings.json")
        assert member is not None
        assert {"disk", "memory"} <= {finding["name"] for finding in json.loads(member.read())}


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
    assert re.search(r"does not run; \S*pilvi up starts it", printed), printed
    assert cloud.pilvi("report", str(tmp_path / "report.tar.gz")).returncode == 0
    assert cloud.ready_nodes(tools), "the cluster needs neither"


@pytest.fixture
def _as_before() -> Iterator[None]:
    with host_as_before():
        yield


@pytest.mark.usefixtures("_as_before")
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


@pytest.mark.usefixtures("_as_before")
def test_run_is_told_to_stop(tmp_path: Path) -> None:
    """SIGTERM ends the command too, and the cloud is removed all the same."""
    note, kubeconfig = tmp_path / "note", tmp_path / "config"
    argv = [str(PILVI), "run", "--", "sh", "-c", f'echo "$PILVI_HOME" > "{note}.new" && mv "{note}.new" "{note}" && exec sleep 1234']
    with subprocess.Popen(argv, env={**os.environ, "KUBECONFIG": str(kubeconfig)}, stderr=subprocess.PIPE, text=True) as command:
        try:
            wait_until(note.exists, "the command to run", 300)
            command.send_signal(signal.SIGTERM)
            _, printed = command.communicate(timeout=300)
        finally:
            command.kill()
    assert command.returncode == 1, printed
    assert "aborted" in printed
    assert not Path(note.read_text().strip()).exists()
    assert not [words for _, words in command_lines() if words[:2] == [b"sleep", b"1234"]]
    assert not kubeconfig.exists()


@pytest.mark.usefixtures("_as_before")
def test_up_in_the_foreground_ends_by_signal_and_leaves_the_units() -> None:
    """As in a container: the engine is a child, SIGTERM ends both in order; the rest goes on until `pilvi down`."""
    cloud = CloudUnderTest("foreground")
    try:
        log = cloud.user_folder / "up.log"
        argv = [str(PILVI), "up", "--foreground"]
        with log.open("wb") as output, subprocess.Popen(argv, env=cloud.environment, stdout=output, stderr=output) as command:
            try:
                wait_until(lambda: "pilvi status" in log.read_text(), "the last line of the summary", 300)
                engine = cloud.status()["engine"]["pid"]
                assert engine in children_of(command.pid)
                assert engine_processes(cloud) == [engine], "no other parent would start it again"
                wait_until(lambda: "registry" in cloud.units(), "the unit that nothing waits for")
                before = cloud.units()
                command.send_signal(signal.SIGTERM)
                command.wait(60)
            finally:
                command.kill()
        assert command.returncode == 0, log.read_text()
        assert not engine_processes(cloud)
        assert cloud.units() == before, "the units live on"
        cloud.pilvi("down")
        assert not cloud.units()
    except BaseException:
        cloud.report("foreground")
        raise
    finally:
        cloud.purge()
