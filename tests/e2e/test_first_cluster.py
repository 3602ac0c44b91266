"""What a first cluster does for its user: with the engine alive, and just the same with the engine dead."""

import base64
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pilvi import kit
from pilvi.pki import KeyPair, Usage, create_ca, issue
from tests.e2e.cloud import VERSION, CloudUnderTest, is_true, run, wait_until
from tests.e2e.host import kill_engine
from tests.e2e.workload import Workload, deployment, service

WEB, HOOK = "web", "hook"


CLUSTER = "default/first"


@pytest.fixture(scope="module")
def first(shared_cloud: CloudUnderTest, image: Path) -> Iterator[Workload]:
    """The cluster of `pilvi up -f` with two workers, and on it a web server behind a Service, with one pod on each worker."""
    workload = _prepare(shared_cloud, image)
    yield workload
    shared_cloud.pilvi("cluster", "delete", CLUSTER, "--yes")  # nobody needs it after these


def _prepare(cloud: CloudUnderTest, image: Path) -> Workload:
    nodes = cloud.wait_for_cluster(CLUSTER, 2)
    workload = Workload(cloud, CLUSTER, image)
    workload.import_image(nodes)
    workload.apply(deployment(WEB, replicas=2, spread="DoNotSchedule"), service(WEB, 80, 8080))
    workload.wait_for_pods(WEB, 2)
    return workload


@pytest.fixture(scope="module", params=["engine alive", "engine dead"])
def engine(request: pytest.FixtureRequest, shared_cloud: CloudUnderTest, first: Workload) -> Iterator[str]:
    if request.param == "engine alive":
        yield request.param
        return
    kill_engine(shared_cloud, for_good=True)
    yield request.param
    shared_cloud.up()


def test_up_says_what_exists_and_what_to_type_next(cloud: CloudUnderTest) -> None:
    """Before the engine is killed and anything is changed: what the first `pilvi up -f` of the run has printed."""
    platform = f"pilvi-{cloud.status()['cloud']['id']}"
    assert "✓ cluster default/first" in cloud.summary
    row = next(line for line in cloud.summary.splitlines() if line.split()[:2] == ["default", "first"])
    assert row.split()[2:5] == [VERSION, "yes", "2/2"]
    assert f"The current context of your kubeconfig is {platform}" in cloud.summary
    assert re.search(r"pilvi kubectl .*--cluster first -- get nodes", cloud.summary)


def test_up_merges_a_context_for_the_cloud_and_one_for_the_cluster(cloud: CloudUnderTest) -> None:
    platform = f"pilvi-{cloud.status()['cloud']['id']}"
    document = yaml.safe_load(cloud.user_kubeconfig.read_text())
    assert {platform, f"{platform}/{CLUSTER}"} <= {context["name"] for context in document["contexts"]}
    kubectl = [str(kit.get_binary("kubectl")), "get", "-o", "name"]
    nodes = run([*kubectl, "nodes", "--context", f"{platform}/{CLUSTER}"], env=cloud.environment).stdout.split()
    assert len(nodes) == 2
    assert "cluster.cluster.x-k8s.io/first" in run([*kubectl, "clusters", "--context", platform], env=cloud.environment).stdout


def test_a_second_up_changes_nothing(cloud: CloudUnderTest) -> None:
    """Neither processes nor wishes: the same engine, the same units, the same objects in the same generation, the same kubeconfig."""

    def facts() -> dict[str, object]:
        kinds = (
            "clusters",
            "machinedeployments",
            "machines",
            "kubevirtmachinetemplates",
            "virtualmachines",
            "vpcs",
            "subnets",
            "clusterclasses",
        )
        status = cloud.status()
        objects = {
            (kind, item["metadata"]["name"]): (item["metadata"]["uid"], item["metadata"].get("generation"))
            for kind in kinds
            for item in cloud.items(kind, "-A")
        }
        kubeconfig = yaml.safe_load(cloud.user_kubeconfig.read_text())
        entries = {section: sorted(map(repr, kubeconfig[section])) for section in ("clusters", "users", "contexts")}
        return {"engine": status["engine"], "units": cloud.units(), "objects": objects, "kubeconfig": entries}

    cloud.up("-f", str(cloud.manifest))
    before = facts()
    cloud.up("-f", str(cloud.manifest))
    assert facts() == before


def test_both_workers_are_ready_and_say_what_they_are(first: Workload, cloud: CloudUnderTest) -> None:
    nodes = cloud.items("nodes", cluster=first.cluster)
    assert [is_true(node, "Ready") for node in nodes] == [True, True]
    assert {node["metadata"]["labels"]["pilvi.dev/machine"] for node in nodes} == {"sandbox"}
    assert {node["spec"]["providerID"] for node in nodes} == {f"kubevirt://{node['metadata']['name']}" for node in nodes}
    assert {node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes} == {VERSION}


def test_status_shows_the_cluster(first: Workload, cloud: CloudUnderTest) -> None:
    namespace, name = first.cluster.split("/")
    status = cloud.status()
    cluster = next(found for found in status["clusters"] if found["namespace"] == namespace)
    assert (cluster["name"], cluster["ready"], cluster["nodes"], cluster["cause"]) == (name, True, "2/2", "")
    machines = [found for found in status["machines"] if found["namespace"] == namespace]
    assert [(machine["backend"], machine["fidelity"], machine["phase"]) for machine in machines] == [("sandbox", "sandbox", "Running")] * 2
    assert all(unit["memoryBytes"] > 0 for unit in status["units"])
    assert status["engine"]["pid"]


def test_pods_reach_each_other_across_nodes(engine: str, first: Workload) -> None:
    one, other = first.wait_for_pods(WEB, 2)
    assert one["spec"]["nodeName"] != other["spec"]["nodeName"]
    for source, target in ((one, other), (other, one)):
        url = f"http://{target['status']['podIP']}:8080/"
        assert first.fetch(source["metadata"]["name"], url) == target["metadata"]["name"]


def test_a_service_is_found_by_name_and_spreads_over_its_pods(engine: str, first: Workload, cloud: CloudUnderTest) -> None:
    pods = {pod["metadata"]["name"] for pod in first.wait_for_pods(WEB, 2)}
    source = min(pods)
    address = cloud.get("service", WEB, cluster=first.cluster)["spec"]["clusterIP"]
    assert first.probe(source, "resolve", f"{WEB}.default.svc.cluster.local") == address
    answers: set[str] = set()

    def all_answered() -> bool:
        answers.add(first.fetch(source, f"http://{WEB}/"))
        return answers == pods

    wait_until(all_answered, "both pods to answer")


def test_a_new_pod_starts(engine: str, first: Workload) -> None:
    name = engine.replace(" ", "-")
    first.apply(deployment(name, "sleep"))
    first.wait_for_pods(name, 1)
    first.delete(name)


def test_logs_of_a_pod(engine: str, first: Workload) -> None:
    pod = first.wait_for_pods(WEB, 2)[0]
    path = f"/{engine.replace(' ', '-')}"
    first.fetch(pod["metadata"]["name"], f"http://127.0.0.1:8080{path}")
    wait_until(lambda: f"request {path} from" in first.kubectl("logs", pod["metadata"]["name"]), "the request in the log")


def test_port_forward(engine: str, first: Workload, cloud: CloudUnderTest) -> None:
    pod = first.wait_for_pods(WEB, 2)[1]["metadata"]["name"]
    argv = cloud.kubectl_argv("port-forward", f"pod/{pod}", ":8080", cluster=first.cluster)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            told = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            assert told is not None
            with socket.create_connection(("127.0.0.1", int(told[1])), timeout=30) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
        finally:
            forward.terminate()
            forward.wait(30)
            forward.communicate()
    assert answer.strip().endswith(pod)


def test_a_validating_webhook_served_by_a_pod(engine: str, first: Workload) -> None:
    authority = create_ca("webhook of the test")
    names = [HOOK, f"{HOOK}.default.svc"]
    first.apply(_tls_secret(authority, names), _webhook_deployment(), service(HOOK, 443, 8443), _webhook(authority))
    first.wait_for_pods(HOOK, 1)
    refused = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "unwanted", "labels": {"refuse": "this"}}}
    try:
        wait_until(lambda: "the probe refuses this" in first.cloud.refused(refused, cluster=first.cluster), "the webhook to refuse")
        assert "created" in first.cloud.apply({**refused, "metadata": {"name": "wanted"}}, cluster=first.cluster)
    finally:
        first.kubectl("delete", "validatingwebhookconfiguration", HOOK)
        first.kubectl("delete", f"deployment/{HOOK}", f"service/{HOOK}", f"secret/{HOOK}", "configmap/wanted", "--ignore-not-found")


def test_status_tells_of_a_dead_engine(engine: str, cloud: CloudUnderTest, first: Workload) -> None:
    assert (cloud.status()["engine"]["pid"] is None) == (engine == "engine dead")


def test_pilvi_kubectl_and_clusterctl(first: Workload, cloud: CloudUnderTest) -> None:
    namespace, name = first.cluster.split("/")
    nodes = cloud.pilvi("kubectl", "--cluster", first.cluster, "--", "get", "nodes", "-o", "name").stdout.split()
    assert len(nodes) == 2
    described = cloud.pilvi("clusterctl", "--", "describe", "cluster", "-n", namespace, name).stdout
    assert all(kind in described for kind in (f"Cluster {first.cluster}", "KubevirtCluster", "KamajiControlPlane", "MachineDeployment")), (
        described
    )
    assert "False" not in described.split()


def test_pods_pull_from_the_registry_of_the_cloud(first: Workload, cloud: CloudUnderTest, image: Path) -> None:
    wait_until(lambda: cloud.units().get("registry"), "the registry to run")
    wait_until(lambda: cloud.pilvi("image", "push", str(image), "probe:v1", check=False).returncode == 0, "the password to be there")
    pod = deployment("pulled")
    pod["spec"]["template"]["spec"]["containers"][0] |= {"image": "pilvi.dev/probe:v1", "imagePullPolicy": "Always"}
    first.apply(pod)
    first.wait_for_pods("pulled", 1)
    first.delete("pulled")
    cloud.pilvi("image", "delete", "probe:v1", "--yes")


def test_clusterctl_move_takes_the_whole_cluster(first: Workload, cloud: CloudUnderTest, tmp_path: Path) -> None:
    namespace, _ = first.cluster.split("/")
    cloud.pilvi("clusterctl", "--", "move", "-n", namespace, "--to-directory", str(tmp_path))
    kinds = {path.name.split("_")[0] for path in tmp_path.iterdir()}
    assert {"Cluster", "KamajiControlPlane", "KubevirtCluster", "KubevirtMachine", "Machine", "MachineDeployment", "Secret"} <= kinds
    cluster = cloud.get("-n", namespace, "cluster", "first")
    assert not cluster["spec"].get("paused"), "clusterctl resumes the source after a move into a directory"


def _tls_secret(authority: KeyPair, names: list[str]) -> dict[str, object]:
    pair = issue(authority, names[0], usage=Usage.SERVER, dns_names=names)
    data = {"tls.crt": pair.certificate.decode(), "tls.key": pair.key.decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": HOOK}, "type": "kubernetes.io/tls", "stringData": data}


def _webhook_deployment() -> dict[str, object]:
    return deployment(
        HOOK,
        "webhook",
        "/tls/tls.crt",
        "/tls/tls.key",
        volumeMounts=[{"name": "tls", "mountPath": "/tls", "readOnly": True}],
        volumes=[{"name": "tls", "secret": {"secretName": HOOK}}],
    )


def _webhook(authority: KeyPair) -> dict[str, object]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": HOOK},
        "webhooks": [
            {
                "name": "probe.pilvi.dev",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 10,
                "clientConfig": {
                    "service": {"name": HOOK, "namespace": "default", "port": 443},
                    "caBundle": base64.b64encode(authority.certificate).decode(),
                },
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
            }
        ],
    }
