import pytest

from pilvi.api import JsonObject
from pilvi.plane.faults import find_fault, is_healthy
from tests.unit.plane.objects import cond, obj, ready_cluster, tenant_control_plane


def test_nothing_of_a_ready_cluster_is_at_fault() -> None:
    for entry in ready_cluster().values():
        assert is_healthy(entry), entry["metadata"]["uid"]
        assert find_fault(entry) is None


def test_details_say_more_than_summaries_and_false_more_than_unknown() -> None:
    machine = obj(
        "Machine",
        "m1",
        cond("Available", "False", "NotReady"),
        cond("Ready", "False", "NotReady", "* InfrastructureReady"),
        cond("NodeHealthy", "Unknown", "InspectionFailed"),
        cond("InfrastructureReady", "False", "WaitingForVM", "the virtual machine\n does not run"),
        cond("Updating", "False", "NotUpdating"),
        cond("Paused", "False"),
    )
    fault = find_fault(machine)
    assert fault is not None
    assert fault.type == "InfrastructureReady"
    assert fault.summary == "WaitingForVM: the virtual machine does not run"


@pytest.mark.parametrize("type", ["Error", "Paused", "ReplicaFailure"])
def test_trouble_comes_first(type: str) -> None:
    fault = find_fault(obj("Vpc", "net", cond("Ready", "False", "Waiting"), cond(type, "True", "Because")))
    assert fault is not None
    assert (fault.type, fault.reason) == (type, "Because")


def test_what_is_summed_up_as_ready_is_healthy_whatever_else_it_says() -> None:
    assert is_healthy(obj("Machine", "m1", cond("Ready"), cond("HairCut", "False")))
    assert not is_healthy(obj("Machine", "m1", cond("Ready"), cond("Available", "False")))


def test_without_a_summary_every_condition_counts() -> None:
    assert not is_healthy(obj("MachineSet", "ms", cond("MachinesReady", "False")))
    assert is_healthy(obj("MachineSet", "ms", cond("MachinesReady"), cond("ScalingUp", "True")))


def test_an_object_that_no_controller_has_seen_says_so() -> None:
    fault = find_fault(obj("VirtualMachine", "m1"))
    assert fault is not None
    assert fault.reason == "NoStatus"


@pytest.mark.parametrize(
    "kind",
    ["ClusterClass", "DataStore", "IP", "KubeadmConfig", "MachineHealthCheck", "MachineSet", "Node", "Pod", "VirtualMachine"],
)
def test_nothing_is_ready_before_its_controller_has_judged_it(kind: str) -> None:
    """Also when somebody has noted that it is not paused."""
    for conditions in ([], [cond("Paused", "False", "NotPaused")]):
        entry = obj(kind, "x", *conditions)
        fault = find_fault(entry)
        assert not is_healthy(entry)
        assert fault is not None
        assert fault.reason == "NoStatus"


@pytest.mark.parametrize("kind", ["KubevirtMachineTemplate", "Namespace", "Secret"])
def test_what_has_no_controller_waits_for_none(kind: str) -> None:
    assert is_healthy(obj(kind, "x"))


def test_an_ip_is_its_address() -> None:
    assert is_healthy(obj("IP", "m1", spec={"v4IpAddress": "10.9.0.2"}))


def test_a_control_plane_shows_the_conditions_of_its_deployment() -> None:
    tenant = tenant_control_plane(
        cond("Available", "False", "ApiServerNotReady", "the API server does not answer yet"),
        cond("Progressing", "True"),
        cond("ReplicaFailure", "True", "UnitFailed", "etcd keeps dying"),
    )
    fault = find_fault(tenant)
    assert fault is not None
    assert fault.message == "etcd keeps dying"


def test_a_load_balancer_without_address_and_a_pod_without_node() -> None:
    service = obj("Service", "first", spec={"type": "LoadBalancer"})
    assert find_fault(service) is not None
    service["status"]["loadBalancer"] = {"ingress": [{"ip": "10.250.0.3"}]}
    assert find_fault(service) is None
    pod = obj("Pod", "p", cond("PodScheduled", "False", "Unschedulable", "0/1 nodes are available"), cond("Ready", "False"))
    fault = find_fault(pod)
    assert fault is not None
    assert fault.reason == "Unschedulable"


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("AllocationFailed", 'Failed to allocate IP for "team/web": "10.250.0.3" is in use by "team/other"; ask for another'),
        ("SeveralVpcs", "the endpoints are in 2 Vpcs (a, b)"),
        ("NotInVpc", "endpoint 10.1.2.3 is not a machine of this namespace"),
    ],
)
def test_a_refused_load_balancer_says_why(reason: str, message: str) -> None:
    """Also one that has an address: it may ask for another, or lead nowhere."""
    for ingress in ([], [{"ip": "10.250.0.9"}]):
        status = {"loadBalancer": {"ingress": ingress}}
        service = obj("Service", "web", cond("pilvi.dev/x", "False", reason, message), spec={"type": "LoadBalancer"}, status=status)
        fault = find_fault(service)
        assert fault is not None
        assert fault.summary == f"{reason}: {message}"


def pod(*conditions: JsonObject, **status: object) -> JsonObject:
    return obj("Pod", "p", cond("Ready", "False", "ContainersNotReady"), cond("ContainersReady", "False"), *conditions, status=status)


@pytest.mark.parametrize(
    ("phase", "conditions", "annotations", "expected"),
    [
        ("Bound", [], {}, ""),
        ("Pending", [cond("pilvi.dev/Provisioned", "False", "ProvisioningFailed", "no room")], {}, "ProvisioningFailed: no room"),
        ("Pending", [], {}, "Pending: it has no volume; its class may wait for a first consumer"),
        ("Pending", [], {"cdi.kubevirt.io/storage.condition.running.message": "downloading"}, "Pending: downloading"),
        ("Bound", [cond("ControllerResizeError", "True", "NoSpace", "full")], {}, "NoSpace: full"),
    ],
)
def test_a_claim_says_what_it_waits_for(phase: str, conditions: list[JsonObject], annotations: dict[str, str], expected: str) -> None:
    claim = obj("PersistentVolumeClaim", "disk", *conditions)
    claim["metadata"]["annotations"] = annotations
    claim.setdefault("status", {})["phase"] = phase
    fault = find_fault(claim)
    assert (fault.summary if fault is not None else "") == expected
    assert is_healthy(claim) == (expected == "")


def test_a_pod_is_what_its_containers_are() -> None:
    waiting = {"name": "web", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    fault = find_fault(pod(cond("PodScheduled"), containerStatuses=[{"name": "side", "state": {"running": {}}}, waiting]))
    assert fault is not None
    assert fault.summary == "ImagePullBackOff: container web: no such image"
    fault = find_fault(
        pod(cond("PodScheduled"), containerStatuses=[{"name": "web", "state": {"waiting": {"reason": "ContainerCreating"}}}])
    )
    assert fault is not None
    assert fault.type == "ContainersReady"
    fault = find_fault(pod(cond("PodScheduled"), phase="Failed", reason="MachinesOnly", message="this host runs no containers"))
    assert fault is not None
    assert fault.summary == "MachinesOnly: this host runs no containers"
    assert find_fault(pod(cond("PodScheduled"), phase="Succeeded")) is None
    assert is_healthy(obj("Pod", "p", cond("Ready"), cond("PodScheduled")))


def test_a_namespace_that_ends_says_what_is_left_in_it() -> None:
    left = cond("NamespaceContentRemaining", "True", "SomeResourcesRemain", "clusters.cluster.x-k8s.io has 1 resource instances")
    gone = cond("NamespaceDeletionContentFailure", "False", "ContentDeleted")
    fault = find_fault(obj("Namespace", "team", gone, left, namespace="", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}))
    assert fault is not None
    assert fault.summary == "SomeResourcesRemain: clusters.cluster.x-k8s.io has 1 resource instances"


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([cond("Deleting", "True", "WaitingForWorkersDeletion", "workers are going")], "WaitingForWorkersDeletion: workers are going"),
        ([cond("Ready", "False", "Deleting", "the network is being removed")], "Deleting: the network is being removed"),
        ([cond("Ready")], "Deleting: waiting for one.dev/a, two.dev/b"),
    ],
)
def test_a_deletion_says_what_it_waits_for(conditions: list[JsonObject], expected: str) -> None:
    marked = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["one.dev/a", "two.dev/b"]}
    fault = find_fault(obj("Cluster", "first", *conditions, metadata=marked))
    assert fault is not None
    assert fault.summary == expected


def test_a_topology_that_cannot_be_says_more_than_what_it_keeps_from_being() -> None:
    cluster = obj(
        "Cluster",
        "first",
        cond("ControlPlaneAvailable", "False", "ObjectDoesNotExist", "Waiting for cluster topology to be reconciled"),
        cond("TopologyReconciled", "False", "ReconcileFailed", "no such variable"),
    )
    fault = find_fault(cluster)
    assert fault is not None
    assert fault.summary == "ReconcileFailed: no such variable"


def test_an_object_of_which_nothing_is_known_yet_is_not_ready() -> None:
    for conditions in ([], [cond("Paused", "False"), cond("Deleting", "False"), cond("TopologyReconciled")]):
        fault = find_fault(obj("Cluster", "first", *conditions))
        assert fault is not None
        assert fault.reason == "NoStatus"
