from pathlib import Path

import pytest

from pilvi.api import Key
from pilvi.api.builtin import CLUSTERS
from pilvi.api.kubevirt import VirtualMachineInstance
from pilvi.errors import NotFound, UserError
from pilvi.host.units import UnitState
from pilvi.kube import Client
from pilvi.lib.hashing import short_hash
from pilvi.plane.heartbeat import ENGINE_AWAY
from pilvi.plane.why import explain, explain_object, unit_prefix
from pilvi.plane.world import KINDS, LONE_KINDS, find_kind
from pilvi.providers import legs, names
from pilvi.providers.kubeovn.vpc.resolver import resolver_unit
from tests.fake_api import FakeApi, status_response
from tests.unit.plane.objects import NAMESPACE, cond, event, obj, ready_cluster, replace_conditions, tenant_control_plane, world_of


def unit(name: str, state: str = "running", log: str = "", restarts: int = 0) -> UnitState:
    return UnitState(name=name, state=state, log_tail=log, restarts=restarts)  # type: ignore[arg-type]


def test_a_ready_cluster_needs_no_explanation() -> None:
    objects = ready_cluster()
    found = explain(world_of(objects), objects["Cluster/first"])
    assert found.trail == ()
    assert found.cause == ""
    assert found.text() == "Cluster default/first is ready."


def broken_worker() -> dict[str, dict[str, object]]:
    objects = ready_cluster()
    waiting = cond("Ready", "False", "WaitingForVM", "the machine does not run")
    replace_conditions(objects, "VirtualMachineInstance/m1", cond("Ready", "False", "MachineNotStarted", "no node image is built"))
    replace_conditions(objects, "VirtualMachine/m1", waiting)
    replace_conditions(objects, "KubevirtMachine/m1", waiting)
    replace_conditions(objects, "Machine/m1", cond("Ready", "False", "NotReady"), cond("InfrastructureReady", "False", "WaitingForVM"))
    replace_conditions(objects, "MachineSet/first-workers-a", cond("MachinesReady", "False"))
    replace_conditions(objects, "MachineDeployment/first-workers", cond("Available", "False", "NotAvailable"))
    replace_conditions(objects, "Cluster/first", cond("WorkersAvailable", "False"), cond("Available", "False", "NotAvailable"))
    return objects


def test_down_the_children_to_the_machine_with_its_events_and_its_log() -> None:
    objects = broken_worker()
    events = [
        event("VirtualMachineInstance/m1", f"Reason{n}", f"message {n}", f"2026-01-01T00:00:0{n}Z", count=n) for n in (3, 1, 2, 6, 5, 4)
    ]
    log = "\n".join(f"line {n}" for n in range(20))
    machine = unit(f"m-{short_hash('VirtualMachineInstance/m1')}", "waiting", log)
    found = explain(world_of(objects, *events), objects["Cluster/first"], [unit("plane-etcd"), machine])
    assert [link.kind for link in found.trail] == [
        "Cluster",
        "MachineDeployment",
        "MachineSet",
        "Machine",
        "KubevirtMachine",
        "VirtualMachine",
        "VirtualMachineInstance",
    ]
    assert found.cause == "VirtualMachineInstance default/m1: MachineNotStarted: no node image is built"
    assert found.unit == machine.name
    assert found.log.splitlines()[-1] == "line 19"
    assert len(found.log.splitlines()) == 8
    assert [line.split()[2] for line in found.events] == ["Reason2", "Reason3", "Reason4", "Reason5", "Reason6"]
    assert "Reason6 (x6): message 6" in found.text()


def test_asked_about_the_culprit_itself_the_cause_does_not_repeat_its_name() -> None:
    objects = broken_worker()
    found = explain(world_of(objects), objects["VirtualMachineInstance/m1"])
    assert found.cause == "MachineNotStarted: no node image is built"


def test_up_the_owners_to_what_had_to_come_first() -> None:
    objects = broken_worker()
    objects["TenantControlPlane/first"] = tenant_control_plane(cond("Progressing", "False", "KeysMissing", "Secret first-ca is gone"))
    replace_conditions(objects, "KamajiControlPlane/first", cond("Available", "False", "KeysMissing"))
    found = explain(world_of(objects), objects["Machine/m1"])
    assert [link.kind for link in found.trail] == ["Cluster", "KamajiControlPlane", "TenantControlPlane"]
    assert found.cause == "TenantControlPlane default/first: KeysMissing: Secret first-ca is gone"


def test_a_sibling_that_comes_later_is_not_its_story() -> None:
    objects = broken_worker()
    found = explain(world_of(objects), objects["KamajiControlPlane/first"])
    assert found.trail == ()


def test_another_worker_is_not_its_story() -> None:
    objects = broken_worker()
    objects["Machine/m0"] = obj("Machine", "m0", cond("Ready", "False", "NotReady"), owner="MachineSet/first-workers-a")
    found = explain(world_of(objects), objects["Machine/m1"])
    assert found.trail[-1].name == "m1"


def test_what_only_waits_for_another_is_not_the_culprit() -> None:
    objects = ready_cluster()
    replace_conditions(objects, "Cluster/first", cond("Available", "False"))
    replace_conditions(objects, "KubevirtCluster/first", cond("Ready", "False", "WaitingForControlPlane"))
    replace_conditions(objects, "KamajiControlPlane/first", cond("Available", "False", "ControlPlaneStarting"))
    objects["TenantControlPlane/first"] = tenant_control_plane(cond("Available", "False", "ApiServerNotReady", "it does not answer yet"))
    found = explain(world_of(objects), objects["Cluster/first"])
    assert found.cause == "TenantControlPlane default/first: ApiServerNotReady: it does not answer yet"
    # With nothing else at fault it is named after all.
    objects["TenantControlPlane/first"] = tenant_control_plane(cond("Available"))
    replace_conditions(objects, "KamajiControlPlane/first", cond("Available"))
    found = explain(world_of(objects), objects["Cluster/first"])
    assert found.trail[-1].kind == "KubevirtCluster"


def test_the_network_is_found_by_its_label() -> None:
    objects = ready_cluster()
    replace_conditions(objects, "Cluster/first", cond("Available", "False"))
    replace_conditions(objects, "KubevirtCluster/first", cond("NetworkReady", "False", "VpcNotReady"), cond("Ready", "False"))
    replace_conditions(objects, "Vpc/net", cond("Ready", "False", "NoTransit", "the transit pool is used up"))
    found = explain(world_of(objects), objects["Cluster/first"])
    assert found.cause == "Vpc net: NoTransit: the transit pool is used up"


def test_of_a_control_planes_units_the_one_that_is_down_is_shown() -> None:
    objects = ready_cluster()
    replace_conditions(objects, "Cluster/first", cond("Available", "False"))
    replace_conditions(objects, "KamajiControlPlane/first", cond("Available", "False"))
    objects["TenantControlPlane/first"] = tenant_control_plane(cond("ReplicaFailure", "True", "UnitFailed", "etcd keeps dying"))
    prefix = f"cp-{short_hash('TenantControlPlane/first')}"
    units = [unit(f"{prefix}-kube-apiserver", restarts=4), unit(f"{prefix}-etcd", "waiting", "no space left on device")]
    found = explain(world_of(objects), objects["Cluster/first"], units)
    assert (found.unit, found.log) == (f"{prefix}-etcd", "no space left on device")


def test_a_deletion_is_explained_by_what_is_left_below() -> None:
    objects = ready_cluster()
    marked = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x"]}
    for uid in ("Cluster/first", "Machine/m1", "KubevirtMachine/m1"):
        objects[uid]["metadata"] = {**objects[uid]["metadata"], **marked}
    found = explain(world_of(objects), objects["Cluster/first"])
    assert found.cause == "KubevirtMachine default/m1: Deleting: waiting for x"


def test_an_owner_loop_ends() -> None:
    one = obj("Pod", "one", cond("PodScheduled", "False"), owner="Pod/two")
    two = obj("Pod", "two", cond("PodScheduled"), owner="Pod/one", status={})
    found = explain(world_of({"Pod/one": one}), one)
    assert found.trail[-1].name == "one"
    assert two["kind"] == "Pod"


def test_unit_names_are_those_that_the_providers_give() -> None:
    for kind, expected in (
        ("TenantControlPlane", legs.control_plane_unit("u")),
        ("VirtualMachineInstance", names.machine_unit("u")),
        ("Vpc", resolver_unit(short_hash("u")).removesuffix("-dns")),
    ):
        assert unit_prefix({"kind": kind, "metadata": {"uid": "u"}}) == expected
    assert unit_prefix({"kind": "Service", "metadata": {"uid": "u"}}) is None


@pytest.mark.parametrize("text", ["vmi", "VirtualMachineInstance", "virtualmachineinstances", "virtualmachineinstances.kubevirt.io"])
def test_kinds_are_found_by_every_usual_name(text: str) -> None:
    assert find_kind(text) == VirtualMachineInstance.RESOURCE


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(UserError) as raised:
        find_kind("clutser")
    assert raised.value.hint is not None
    assert "cluster" in raised.value.hint


@pytest.mark.parametrize("text", ["mhc", "clusterclass", "kubevirtmachinetemplate", "ns", "secrets"])
def test_what_is_no_part_of_a_cluster_can_be_asked_about_too(text: str) -> None:
    assert find_kind(text)


def test_every_kind_has_one_place_in_the_order() -> None:
    kinds = (*KINDS, *LONE_KINDS)
    assert len({resource.kind for resource in kinds}) == len(kinds)


def test_what_has_no_status_is_not_called_ready() -> None:
    secret = obj("Secret", "s")
    del secret["status"]
    assert explain(world_of({}), secret).text() == "Secret default/s is there; it has no status that could say more."


def test_a_dead_engine_is_told_with_what_is_not_ready_and_only_then() -> None:
    objects = broken_worker()
    world = world_of(objects)
    world.engine = ENGINE_AWAY
    found = explain(world, objects["Cluster/first"])
    assert found.cause == f"VirtualMachineInstance default/m1: MachineNotStarted: no node image is built; {ENGINE_AWAY}"
    assert "\nThe engine does not run; sudo pilvi up starts it." in found.text()
    well = explain(world, objects["KamajiControlPlane/first"])
    assert (well.cause, well.text()) == ("", "KamajiControlPlane default/first is ready.")


def test_a_namespace_that_ends_waits_for_what_is_in_it() -> None:
    marked = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x"]}
    space = obj("Namespace", NAMESPACE, namespace="", metadata=marked, status={"phase": "Terminating"})
    objects = ready_cluster()
    objects["KubevirtMachine/m1"]["metadata"] |= marked
    objects["elsewhere"] = obj("Machine", "m1", cond("Ready", "False", "Broken"), namespace="other")
    found = explain(world_of(objects), space)
    assert [link.kind for link in found.trail][:2] == ["Namespace", "Cluster"]
    assert found.cause == "KubevirtMachine default/m1: Deleting: waiting for x"


async def test_a_silent_engine_is_told(fake_api: FakeApi) -> None:
    """From what the API has, since a person on another machine sees no process."""
    fake_api.put(
        "/apis/cluster.x-k8s.io/v1beta2/namespaces/default/clusters/first",
        obj("Cluster", "first", cond("Available", "False", "NotAvailable")),
    )
    node = obj("Node", "vm", cond("Ready"), namespace="", metadata={"labels": {"pilvi.dev/cloud": "abcde"}})
    fake_api.put("/api/v1/nodes/vm", node)
    for namespace, name, time in (("kube-node-lease", "vm", "12:00:00"), ("kube-system", "apiserver-x", "12:01:03")):
        lease = obj("Lease", name, namespace=namespace, spec={"renewTime": f"2026-01-01T{time}.000000Z"})
        fake_api.put(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}", lease)
    async with Client.open(fake_api.kubeconfig) as client:
        found = await explain_object(client, CLUSTERS, Key("default", "first"))
        assert found.cause == "NotAvailable; the engine does not run (silent for 63 s); sudo pilvi up starts it"
        fake_api.faults.append(lambda request: status_response(403, "Forbidden") if request.path.endswith("/leases") else None)
        assert (await explain_object(client, CLUSTERS, Key("default", "first"))).cause == "NotAvailable"


async def test_it_reads_what_it_needs(fake_api: FakeApi, tmp_path: Path) -> None:
    fake_api.put(
        "/apis/cluster.x-k8s.io/v1beta2/namespaces/default/clusters/first",
        obj("Cluster", "first", cond("Available", "False", "NotAvailable")),
    )
    async with Client.open(fake_api.kubeconfig) as client:
        found = await explain_object(client, CLUSTERS, Key("default", "first"))
        assert found.cause == "NotAvailable"
        with pytest.raises(NotFound, match="no Cluster default/other"):
            await explain_object(client, CLUSTERS, Key("default", "other"))
