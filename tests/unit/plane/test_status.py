from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from aiohttp import web

from pilvi.host.cloud import Cloud
from pilvi.kube import Kubeconfig
from pilvi.plane.status import EngineStatus, Status, cluster_status, read_status
from tests.fake_api import FakeApi, status_response
from tests.unit.plane.objects import cond, obj, ready_cluster, replace_conditions, world_of

PATHS = {
    "Cluster": "/apis/cluster.x-k8s.io/v1beta2/namespaces/default/clusters/",
    "MachineDeployment": "/apis/cluster.x-k8s.io/v1beta2/namespaces/default/machinedeployments/",
    "Machine": "/apis/cluster.x-k8s.io/v1beta2/namespaces/default/machines/",
    "VirtualMachineInstance": "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances/",
}


def make_cloud(tmp_path: Path) -> Cloud:
    home = tmp_path / "home"
    home.mkdir()
    return Cloud(
        id="abcde",
        home=home,
        run=tmp_path / "run",
        range=IPv4Network("10.250.7.0/24"),
        transit=IPv4Network("100.64.0.0/22"),
        uid_base=1000000,
        uid_count=10,
    )


async def test_the_document_has_the_promised_fields(fake_api: FakeApi, tmp_path: Path) -> None:
    for entry in ready_cluster().values():
        if entry["kind"] in PATHS:
            fake_api.put(PATHS[entry["kind"]] + entry["metadata"]["name"], entry)
    fake_api.put("/api/v1/nodes/vm", obj("Node", "vm", cond("Ready", "False", "EngineStopped", "nobody answers"), namespace=""))
    status = await read_status(make_cloud(tmp_path), EngineStatus(7, "0.1.0"), fake_api.kubeconfig)
    document = msgspec.to_builtins(status)
    assert document["engine"] == {"pid": 7, "version": "0.1.0"}
    assert document["api"] == ""
    assert document["clusters"] == [
        {"namespace": "default", "name": "first", "version": "v1.37.2", "ready": True, "nodes": "1/1", "cause": ""}
    ]
    assert document["machines"] == [
        {
            "namespace": "default",
            "name": "m1",
            "backend": "sandbox",
            "fidelity": "sandbox",
            "phase": "Running",
            "addresses": ["10.9.0.2"],
            "cause": "",
        }
    ]
    assert document["hosts"][0]["cause"] == "EngineStopped: nobody answers"
    assert document["cloud"]["range"] == "10.250.7.0/24"


async def test_a_host_under_pressure_is_ready_and_has_a_cause(fake_api: FakeApi, tmp_path: Path) -> None:
    short = cond("DiskPressure", "True", "HostHasDiskPressure", "less than 2048 MiB is free")
    for name, pressure in (("full", short), ("fine", cond("DiskPressure", "False"))):
        fake_api.put(f"/api/v1/nodes/{name}", obj("Node", name, pressure, cond("Ready"), namespace=""))
    status = await read_status(make_cloud(tmp_path), EngineStatus(7, "0.1.0"), fake_api.kubeconfig)
    assert [(host.name, host.ready, host.cause) for host in status.hosts] == [
        ("fine", True, ""),
        ("full", True, "HostHasDiskPressure: less than 2048 MiB is free"),
    ]


async def test_a_dead_engine_stands_in_every_cause(fake_api: FakeApi, tmp_path: Path) -> None:
    fake_api.put(PATHS["Cluster"] + "first", obj("Cluster", "first", cond("Available", "False", "NotAvailable")))
    status = await read_status(make_cloud(tmp_path), EngineStatus(), fake_api.kubeconfig)
    assert status.clusters[0].cause == "NotAvailable; the engine does not run; sudo pilvi up starts it"
    # Without a cloud on this host nothing is known of processes.
    status = await read_status(None, EngineStatus(), fake_api.kubeconfig)
    assert status.clusters[0].cause == "NotAvailable"


async def test_a_full_disk_is_named_with_and_without_an_api(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server answers for long after nothing can be stored any more."""
    cloud = make_cloud(tmp_path)
    fake_api.put("/api/v1/nodes/vm", obj("Node", "vm", cond("Ready"), namespace=""))
    assert (await read_status(cloud, EngineStatus(7, "0.1.0"), fake_api.kubeconfig)).hosts[0].cause == ""
    monkeypatch.setattr("shutil.disk_usage", lambda _path: SimpleNamespace(free=3 << 20))
    words = f"the disk is full: 3 MiB free at {cloud.home}"
    status = await read_status(cloud, EngineStatus(7, "0.1.0"), fake_api.kubeconfig)
    assert words in status.cloud.cause
    assert words in status.hosts[0].cause
    assert status.hosts[0].ready
    status = await read_status(cloud, EngineStatus(7, "0.1.0"), Kubeconfig(server="http://127.0.0.1:1"))
    assert words in status.api


async def test_a_machine_that_does_not_run_yet_has_its_backend(fake_api: FakeApi, tmp_path: Path) -> None:
    conditions = [
        cond("Ready", "False", "PodNotReady", "the scheduler has not chosen a host yet"),
        cond("pilvi.dev/Fidelity", "True", "Tcg"),
    ]
    machine = obj("VirtualMachineInstance", "m1", *conditions, status={"phase": "Scheduling"})
    fake_api.put(PATHS["VirtualMachineInstance"] + "m1", machine)
    status = await read_status(make_cloud(tmp_path), EngineStatus(7, "0.1.0"), fake_api.kubeconfig)
    assert [(entry.backend, entry.fidelity, entry.phase) for entry in status.machines] == [("qemu", "tcg", "Scheduling")]


async def test_a_dead_api_is_told_and_the_rest_stands(tmp_path: Path) -> None:
    status = await read_status(make_cloud(tmp_path), EngineStatus(), Kubeconfig(server="http://127.0.0.1:1"))
    assert "127.0.0.1:1" in status.api
    assert (status.clusters, status.units) == ([], [])


async def test_without_cloud_and_kubeconfig() -> None:
    status = await read_status(None, EngineStatus(), None)
    assert status.api
    assert msgspec.json.decode(msgspec.json.encode(status), type=Status) == status


def test_a_cluster_that_is_not_ready_says_why_and_counts_what_is_wanted() -> None:
    objects = ready_cluster()
    replace_conditions(objects, "Cluster/first", cond("Available", "False", "NotAvailable"))
    objects["MachineDeployment/first-workers"]["spec"]["replicas"] = 3
    status = cluster_status(world_of(objects), objects["Cluster/first"])
    assert (status.ready, status.nodes, status.cause) == (False, "1/3", "NotAvailable")


def test_before_there_are_machine_deployments_the_topology_tells() -> None:
    workers = {"machineDeployments": [{"name": "a", "replicas": 2}, {"name": "b"}]}
    cluster = obj("Cluster", "first", spec={"topology": {"version": "v1.37.2", "workers": workers}})
    assert cluster_status(world_of({"x": cluster}), cluster).nodes == "0/3"


def test_a_cluster_that_is_being_deleted_is_not_ready() -> None:
    objects = ready_cluster()
    objects["Cluster/first"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not cluster_status(world_of(objects), objects["Cluster/first"]).ready


async def test_storage_classes_say_what_they_can_do(fake_api: FakeApi, tmp_path: Path) -> None:
    told = {"pilvi.dev/clone": "true", "pilvi.dev/expand": "false", "pilvi.dev/copy-method": "reflink"}
    for name, provisioner in (("local", "local.pilvi.dev"), ("foreign", "example.com/disks")):
        entry = {"kind": "StorageClass", "metadata": {"name": name, "annotations": told}, "provisioner": provisioner}
        fake_api.put(f"/apis/storage.k8s.io/v1/storageclasses/{name}", entry)
    for name, size, storage_class in (("a", "1Gi", "local"), ("b", "512Mi", "local"), ("c", "1Gi", "foreign")):
        volume = {
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {"capacity": {"storage": size}, "storageClassName": storage_class},
        }
        fake_api.put(f"/api/v1/persistentvolumes/{name}", volume)
    status = await read_status(make_cloud(tmp_path), EngineStatus(7, "0.1.0"), fake_api.kubeconfig)
    (found,) = msgspec.to_builtins(status)["storageClasses"]
    assert found.pop("freeBytes") > 0
    assert found == {
        "name": "local",
        "clone": True,
        "snapshot": False,
        "share": False,
        "expand": False,
        "method": "reflink",
        "promisedBytes": 1536 << 20,
    }
    elsewhere = await read_status(None, EngineStatus(), fake_api.kubeconfig)
    assert elsewhere.storage_classes[0].free_bytes is None

    def forbid(request: web.Request) -> web.StreamResponse | None:
        return status_response(403, "Forbidden") if "storageclasses" in request.path else None

    fake_api.faults.append(forbid)
    status = await read_status(None, EngineStatus(7, "0.1.0"), fake_api.kubeconfig)
    assert (status.api, status.storage_classes) == ("", [])
