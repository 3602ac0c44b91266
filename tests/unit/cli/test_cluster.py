"""The cluster commands, against a fake API server."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import click
import pytest
import yaml

from pilvi.api import JsonObject, Key
from pilvi.cli import contexts
from pilvi.cli.cluster.form import build_cluster, check_version
from pilvi.cli.cluster.timeline import draw_timeline
from pilvi.errors import TimedOut, WrongUse
from pilvi.host.cloud import save_cloud
from pilvi.host.units import UnitState
from pilvi.kit import kubernetes_versions
from pilvi.lib.hashing import short_hash
from pilvi.plane.timeline import Phase
from tests.fake_api import FakeApi, status_response
from tests.unit.cli.conftest import Invoke, kubeconfig_of
from tests.unit.cli.test_contexts import make_cloud
from tests.unit.plane.objects import cond

CLUSTERS = "/apis/cluster.x-k8s.io/v1beta2/namespaces/default/clusters/"
DEPLOYMENTS = "/apis/cluster.x-k8s.io/v1beta2/namespaces/default/machinedeployments/"
SECRET = "/api/v1/namespaces/default/secrets/first-kubeconfig"
COREDNS = "/apis/apps/v1/namespaces/kube-system/deployments/coredns"
STEPS = (
    "TopologyReconciled",
    "InfrastructureReady",
    "ControlPlaneInitialized",
    "ControlPlaneAvailable",
    "WorkersAvailable",
    "RemoteConnectionProbe",
    "Available",
)


def make_ready(api: FakeApi, workers: int = 2, coredns: str = "True") -> None:
    """What controllers would do: the platform and the cluster are the same fake server here."""
    cluster = api.objects[f"{CLUSTERS}first"]
    api.put(f"{CLUSTERS}first", {**cluster, "status": {"conditions": [cond(step) for step in STEPS]}})
    numbers = {"replicas": workers, "availableReplicas": workers, "upToDateReplicas": workers}
    labels = {"cluster.x-k8s.io/cluster-name": "first", "topology.cluster.x-k8s.io/deployment-name": "workers"}
    deployment: JsonObject = {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "MachineDeployment",
        "metadata": {"name": "first-workers", "namespace": "default", "labels": labels},
        "spec": {"clusterName": "first", "replicas": workers},
        "status": numbers,
    }
    api.put(f"{DEPLOYMENTS}first-workers", deployment)
    kubeconfig = yaml.safe_load(kubeconfig_of(api, "tenant"))
    kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(b"tenant authority").decode()
    value = base64.b64encode(yaml.safe_dump(kubeconfig).encode()).decode()
    api.put(SECRET, {"kind": "Secret", "metadata": {"name": "first-kubeconfig", "namespace": "default"}, "data": {"value": value}})
    metadata = {"name": "coredns", "namespace": "kube-system"}
    api.put(COREDNS, {"kind": "Deployment", "metadata": metadata, "status": {"conditions": [cond("Available", coredns)]}})


def on_create(api: FakeApi, **options: str) -> None:
    """Make the cluster ready as soon as somebody looks for it."""

    def fault(request):  # type: ignore[no-untyped-def]
        if request.method == "GET" and request.path == f"{CLUSTERS}first" and request.path in api.objects:
            api.faults.remove(fault)
            make_ready(api, **options)

    api.faults.append(fault)


async def test_dry_run_prints_the_object_and_asks_nobody(invoke: Invoke, fake_api: FakeApi) -> None:
    result = await invoke("cluster", "create", "team-a/first", "--workers", "3", "--memory", "2Gi", "--dry-run", "-o", "yaml")
    assert result.exit_code == 0
    cluster = yaml.safe_load(result.stdout)
    assert cluster["metadata"] == {"name": "first", "namespace": "team-a"}
    topology = cluster["spec"]["topology"]
    assert topology["classRef"] == {"name": "pilvi", "namespace": "pilvi-system"}
    assert topology["version"] == kubernetes_versions()[-1]
    assert topology["workers"]["machineDeployments"] == [{"class": "default-worker", "name": "workers", "replicas": 3}]
    assert topology["variables"] == [{"name": "memory", "value": "2Gi"}]
    assert fake_api.requests == []


async def test_the_example_is_what_create_makes() -> None:
    example = yaml.safe_load((Path(__file__).parents[3] / "examples" / "first-cluster.yaml").read_text())
    made = build_cluster(Key("default", "first"), kubernetes_versions()[-1], 2, {})
    assert example == made


async def test_create_waits_merges_and_draws(invoke: Invoke, platform: FakeApi, user: Path) -> None:
    on_create(platform)
    result = await invoke("cluster", "create", "first")
    assert result.exit_code == 0, result.output
    assert "current context is pilvi/default/first" in result.stdout
    assert yaml.safe_load(user.read_text())["current-context"] == "pilvi/default/first"
    assert ("POST", CLUSTERS.rstrip("/") + "?fieldManager=pilvi-cli") in platform.requests


async def test_create_times_out_with_the_reason(invoke: Invoke, platform: FakeApi, user: Path) -> None:
    before = user.read_bytes()
    result = await invoke("cluster", "create", "first", "--timeout", "0.5")
    assert isinstance(result.exception, TimedOut)
    assert "cluster default/first: its objects\nCluster default/first is not ready:" in str(result.exception)
    assert "its controller has not looked at it yet" in str(result.exception)
    assert user.read_bytes() == before


async def test_create_waits_for_dns(invoke: Invoke, platform: FakeApi) -> None:
    on_create(platform, coredns="False")
    result = await invoke("cluster", "create", "first", "--timeout", "1")
    assert isinstance(result.exception, TimedOut)
    assert "cluster default/first: DNS\n" in str(result.exception)


async def test_create_waits_over_an_api_that_is_busy(invoke: Invoke, platform: FakeApi) -> None:
    on_create(platform)
    left = [3]

    def busy(request):  # type: ignore[no-untyped-def]
        if request.path == COREDNS and left[0]:
            left[0] -= 1
            return status_response(503, "ServiceUnavailable")
        return None

    platform.faults.append(busy)
    result = await invoke("cluster", "create", "first")
    assert result.exit_code == 0, result.output
    assert left == [0]


async def test_a_time_out_stays_one_when_the_reason_cannot_be_read(invoke: Invoke, platform: FakeApi) -> None:
    def forbid(request):  # type: ignore[no-untyped-def]
        return status_response(403, "Forbidden") if request.path.endswith("/events") else None

    platform.faults.append(forbid)
    result = await invoke("cluster", "create", "first", "--timeout", "0.5")
    assert isinstance(result.exception, TimedOut)
    assert "Why, cannot be told: list events: made to fail with 403" in str(result.exception)


async def test_the_next_command_is_one_that_is_there(invoke: Invoke, platform: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    on_create(platform)
    monkeypatch.setenv("PATH", "/nowhere")
    result = await invoke("cluster", "create", "first")
    assert result.stdout.endswith("Next: pilvi kubectl --cluster default/first -- get nodes\n")
    await invoke("cluster", "delete", "first", "--yes")
    on_create(platform)
    monkeypatch.setattr("shutil.which", lambda name, **_: f"/usr/bin/{name}")
    result = await invoke("cluster", "create", "first")
    assert result.stdout.endswith("Next: kubectl get nodes\n")


async def test_create_without_wait_and_twice(invoke: Invoke, platform: FakeApi) -> None:
    assert (await invoke("cluster", "create", "first", "--no-wait")).exit_code == 0
    result = await invoke("cluster", "create", "first", "--no-wait")
    assert str(result.exception) == "there is a cluster default/first already"


@pytest.mark.parametrize("name", ["Upper", "1first", "under_score", "a" * 64, "team/-x", ""])
async def test_bad_names_are_wrong_use_and_nothing_is_sent(name: str, invoke: Invoke, platform: FakeApi) -> None:
    assert (await invoke("cluster", "create", name)).exit_code == 2
    assert platform.requests == []


def test_unknown_versions_list_the_known_ones() -> None:
    assert check_version("1.37.2", ["v1.36.3", "v1.37.2"]) == "v1.37.2"
    with pytest.raises(WrongUse, match=r"v9\.9\.9.*v1\.36\.3, v1\.37\.2"):
        check_version("v9.9.9", ["v1.36.3", "v1.37.2"])


async def test_list_in_all_forms(invoke: Invoke, platform: FakeApi) -> None:
    assert (await invoke("cluster", "list")).stdout == ""
    assert json.loads((await invoke("cluster", "list", "-o", "json")).stdout) == []
    platform.put(f"{CLUSTERS}first", build_cluster(Key("default", "first"), "v1.37.2", 2, {}))
    make_ready(platform)
    table = (await invoke("cluster", "list")).stdout.splitlines()
    assert table[0].split() == ["NAMESPACE", "NAME", "VERSION", "READY", "NODES", "CAUSE"]
    assert table[1].split() == ["default", "first", "v1.37.2", "yes", "0/2"]
    expected = [{"namespace": "default", "name": "first", "version": "v1.37.2", "ready": True, "nodes": "0/2", "cause": ""}]
    assert json.loads((await invoke("cluster", "list", "-o", "json")).stdout) == expected
    assert yaml.safe_load((await invoke("cluster", "list", "-o", "yaml")).stdout) == expected


async def test_describe_shows_the_parts_and_why(invoke: Invoke, platform: FakeApi) -> None:
    platform.put(f"{CLUSTERS}first", build_cluster(Key("default", "first"), "v1.37.2", 2, {}))
    output = (await invoke("cluster", "describe", "first")).stdout
    assert "Cluster default/first is not ready:" in output
    document = json.loads((await invoke("cluster", "describe", "default/first", "-o", "json")).stdout)
    assert document["cluster"]["name"] == "first"
    assert document["why"]["trail"][0]["kind"] == "Cluster"


def unit(name: str) -> UnitState:
    return UnitState(name=name, state="running", pid=5)


@pytest.fixture
def units(platform: FakeApi, monkeypatch: pytest.MonkeyPatch) -> list[UnitState]:
    """A cluster with a control plane, and what runs on its host, as root sees it."""
    stored = platform.put(f"{CLUSTERS}first", build_cluster(Key("default", "first"), "v1.37.2", 2, {}))
    owner = {"uid": stored["metadata"]["uid"], "kind": "Cluster", "name": "first", "apiVersion": "v1", "controller": True}
    metadata = {"name": "first", "namespace": "default", "ownerReferences": [owner]}
    path = "/apis/kamaji.clastix.io/v1alpha1/namespaces/default/tenantcontrolplanes/first"
    plane = platform.put(path, {"kind": "TenantControlPlane", "metadata": metadata, "spec": {}})
    name = f"cp-{short_hash(plane['metadata']['uid'])}"
    found = [unit(f"{name}-etcd"), unit(f"{name}-kube-apiserver"), unit("cp-00000000-etcd"), unit("plane-etcd")]
    monkeypatch.setattr("pilvi.cli.connection.find_units", lambda _: found)
    return found


async def test_describe_names_the_units_of_the_cluster(invoke: Invoke, units: list[UnitState]) -> None:
    document = json.loads((await invoke("cluster", "describe", "first", "-o", "json")).stdout)
    assert document["units"] == [units[0].name, units[1].name]
    assert units[1].name in (await invoke("cluster", "describe", "first")).stdout


async def test_logs_of_a_cluster_by_component(
    invoke: Invoke, units: list[UnitState], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    home = tmp_path / "home"
    save_cloud(make_cloud(home))
    (home / "admin.conf").write_bytes((tmp_path / "kubeconfig").read_bytes())
    (home / "logs").mkdir()
    for found in units:
        (home / "logs" / f"{found.name}.log").write_text(f"I am {found.name}\n")
    etcd, server = units[0].name, units[1].name
    assert (await invoke("logs", "--cluster", "first", "etcd")).stdout == f"I am {etcd}\n"
    assert (await invoke("logs", "--cluster", "first")).stdout == f"==> {etcd} <==\nI am {etcd}\n==> {server} <==\nI am {server}\n"
    assert (await invoke("logs", "--cluster", "first", "-f")).exit_code == 2
    unknown = await invoke("logs", "--cluster", "first", "scheduler")
    assert isinstance(unknown.exception, WrongUse)
    assert unknown.exception.hint == f"one of: {etcd}, {server}"
    assert str((await invoke("logs", "--cluster", "none")).exception) == "there is no cluster default/none"
    assert (await invoke("logs")).exit_code == 2


async def test_scale_changes_the_topology_only(invoke: Invoke, platform: FakeApi) -> None:
    platform.put(f"{CLUSTERS}first", build_cluster(Key("default", "first"), "v1.37.2", 2, {}))
    sent: list[tuple[str, bytes]] = []

    def fault(request):  # type: ignore[no-untyped-def]
        if request.method == "PATCH":
            from aiohttp import web

            sent.append((request.content_type, b""))
            return web.json_response(platform.objects[f"{CLUSTERS}first"])
        return None

    platform.faults.append(fault)
    result = await invoke("cluster", "scale", "first", "--workers", "5", "--no-wait")
    assert result.exit_code == 0, result.output
    assert sent == [("application/json-patch+json", b"")]


async def test_scale_asks_which_of_several_pools(invoke: Invoke, platform: FakeApi) -> None:
    cluster = build_cluster(Key("default", "first"), "v1.37.2", 2, {})
    cluster["spec"]["topology"]["workers"]["machineDeployments"] += [{"class": "default-worker", "name": "big"}]
    platform.put(f"{CLUSTERS}first", cluster)
    result = await invoke("cluster", "scale", "first", "--workers", "5")
    assert "2 pools of workers; its pools: workers, big" in str(result.exception)
    result = await invoke("cluster", "scale", "first", "--workers", "5", "--pool", "small")
    assert "no pool small" in str(result.exception)
    platform.put(f"{CLUSTERS}first", {**cluster, "spec": {}})
    result = await invoke("cluster", "scale", "first", "--workers", "5")
    assert "not made from a ClusterClass" in str(result.exception)


async def test_delete_asks_and_takes_the_context_out(invoke: Invoke, platform: FakeApi, user: Path) -> None:
    on_create(platform)
    assert (await invoke("cluster", "create", "first")).exit_code == 0
    refused = await invoke("cluster", "delete", "first")
    assert isinstance(refused.exception, WrongUse)
    assert str(refused.exception) == "this needs a confirmation, and there is no terminal to ask on"
    assert f"{CLUSTERS}first" in platform.objects
    result = await invoke("cluster", "delete", "first", "--yes")
    assert result.exit_code == 0, result.output
    assert "pilvi/default/first" in result.stdout
    assert f"{CLUSTERS}first" not in platform.objects
    document = yaml.safe_load(user.read_text())
    assert [entry["name"] for entry in document["contexts"]] == ["pilvi"]
    assert document["current-context"] == ""


async def test_delete_asks_about_the_cloud_by_context_and_server(
    invoke: Invoke, platform: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.put(f"{CLUSTERS}first", build_cluster(Key("default", "first"), "v1.37.2", 2, {}))
    asked: list[str] = []
    monkeypatch.setattr("pilvi.cli.cluster.delete.confirm", lambda question, _: asked.append(question))
    assert (await invoke("cluster", "delete", "first")).exit_code == 0
    server = platform.kubeconfig.server
    assert asked == [f"Delete cluster default/first of the cloud at {server} (context pilvi), with everything that runs in it?"]


async def test_delete_times_out_with_what_it_waits_for(invoke: Invoke, platform: FakeApi) -> None:
    cluster = build_cluster(Key("default", "first"), "v1.37.2", 2, {})
    cluster["metadata"]["finalizers"] = ["cluster.cluster.x-k8s.io"]
    platform.put(f"{CLUSTERS}first", cluster)
    result = await invoke("cluster", "delete", "first", "--yes", "--timeout", "0.5")
    assert isinstance(result.exception, TimedOut)
    assert "waiting for cluster.cluster.x-k8s.io" in str(result.exception)


@pytest.mark.parametrize(
    "command",
    [["describe", "x"], ["delete", "x", "--yes"], ["scale", "x", "--workers", "1"], ["kubeconfig", "x"]],
)
async def test_a_cluster_that_is_not_there(command: list[str], invoke: Invoke, platform: FakeApi) -> None:
    result = await invoke("cluster", *command)
    assert str(result.exception) == "there is no cluster default/x"


async def test_kubeconfig_is_printed_or_merged(invoke: Invoke, platform: FakeApi, user: Path) -> None:
    platform.put(f"{CLUSTERS}first", build_cluster(Key("default", "first"), "v1.37.2", 2, {}))
    result = await invoke("cluster", "kubeconfig", "first")
    assert "has no kubeconfig yet" in str(result.exception)
    make_ready(platform)
    printed = (await invoke("cluster", "kubeconfig", "default/first")).stdout
    assert yaml.safe_load(printed)["current-context"] == "tenant"
    await invoke("cluster", "kubeconfig", "first", "--merge")
    assert yaml.safe_load(user.read_text())["current-context"] == contexts.context_name(None, "default/first")


def test_bars_stand_where_the_phases_were() -> None:
    lines = draw_timeline([Phase("network", 100, 101), Phase("API", 101.5, 104.25), Phase("DNS", 109.75, 110)])
    assert len(lines) == 4
    starts = [line.index("━") for line in lines[:3]]
    assert starts == sorted(starts)
    assert [line.split()[-2] for line in lines] == ["1", "2.8", "<1", "10"]
    assert [lines[0].count("━"), lines[1].count("━")] == [5, 13]  # of 48 characters
    assert len({len(click.unstyle(line)) for line in lines}) == 1
    assert draw_timeline([]) == []
    assert draw_timeline([Phase("network", 1, 1)])
