"""The engine may die at any moment and goes on where it was; clusters and machines never notice."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cloud import CloudUnderTest, cluster_manifest, is_true, wait_until
from tests.e2e.conftest import ClusterMaker
from tests.e2e.host import engine_processes, kill_engine, signal_engine, start_engine
from tests.e2e.workload import Workload, deployment

NEIGHBOUR = "neighbour"
Event = Callable[[CloudUnderTest, str], bool]


def _exists(kind: str) -> Event:
    return lambda cloud, namespace: cloud.exists("-n", namespace, kind)


def _gone(kind: str) -> Event:
    return lambda cloud, namespace: not cloud.exists("-n", namespace, kind)


def _deleted(kind: str) -> Event:
    """The first object of that kind is being deleted, and still there: `HELD` sees to that."""

    def seen(cloud: CloudUnderTest, namespace: str) -> bool:
        return bool(cloud.items("-n", namespace, kind)[0]["metadata"].get("deletionTimestamp"))

    return seen


def _has(kind: str, *path: str) -> Event:
    """The first object of that kind has something at the path."""

    def seen(cloud: CloudUnderTest, namespace: str) -> bool:
        value = cloud.items("-n", namespace, kind)[0]
        for part in path:
            value = value.get(part) or {}
        return bool(value)

    return seen


CREATION: dict[str, Event] = {
    "infrastructure cluster made": _exists("kubevirtclusters"),
    "network chosen": _has("kubevirtclusters", "metadata", "annotations", "pilvi.dev/vpc"),
    "tenant control plane made": _exists("tenantcontrolplanes"),
    "cloud address given": lambda cloud, namespace: any(
        service["status"]["loadBalancer"].get("ingress") for service in cloud.items("-n", namespace, "services")
    ),
    "keys written": lambda cloud, namespace: cloud.exists("-n", namespace, "secret", "killed-ca"),
    "kubeconfig written": lambda cloud, namespace: cloud.exists("-n", namespace, "secret", "killed-kubeconfig"),
    "control plane initialised": _has("kamajicontrolplanes", "status", "initialization", "controlPlaneInitialized"),
    "infrastructure provisioned": _has("kubevirtclusters", "status", "initialization", "provisioned"),
    "virtual machine made": _exists("virtualmachines"),
    "instance made": _exists("virtualmachineinstances"),
    "launcher bound": _has("pods", "spec", "nodeName"),
    "machine running": lambda cloud, namespace: cloud.items("-n", namespace, "vmi")[0]["status"]["phase"] == "Running",
    "machine provisioned": _has("kubevirtmachines", "status", "initialization", "provisioned"),
    "node joined": _has("machines", "status", "nodeRef"),
}
DELETION: dict[str, Event] = {
    "cluster deleted": _deleted("clusters"),
    "machine deleted": _deleted("machines"),
    "virtual machine deleted": _deleted("virtualmachines"),
    "instance gone": _gone("virtualmachineinstances"),
    "machine gone": _gone("machines"),
    "tenant control plane deleted": _deleted("tenantcontrolplanes"),
    "tenant control plane gone": _gone("tenantcontrolplanes"),
    "infrastructure deleted": _deleted("kubevirtclusters"),
}
# What an event of deletion is about is kept by a finalizer of the test until the engine is dead, or it might be gone before that.
HELD = {
    "cluster deleted": "clusters",
    "machine deleted": "machines",
    "virtual machine deleted": "virtualmachines",
    "tenant control plane deleted": "tenantcontrolplanes",
    "infrastructure deleted": "kubevirtclusters",
}
HOLD = "test.pilvi.dev/hold"
# Those that stand between two writes that belong together; the others are `make soak`'s.
CHOSEN_CREATION = ("network chosen", "keys written", "control plane initialised", "virtual machine made", "machine running")
CHOSEN_DELETION = ("machine deleted", "instance gone", "tenant control plane deleted")


def hold(cloud: CloudUnderTest, namespace: str, kind: str) -> None:
    """Keep every object of the kind when it is deleted."""
    for item in cloud.items("-n", namespace, kind):
        _set_finalizers(cloud, namespace, kind, item, [*item["metadata"].get("finalizers", []), HOLD])


def release(cloud: CloudUnderTest, namespace: str, kind: str) -> None:
    """Undo `hold`."""
    for item in cloud.items("-n", namespace, kind):
        left = [name for name in item["metadata"].get("finalizers", []) if name != HOLD]
        _set_finalizers(cloud, namespace, kind, item, left)


def _set_finalizers(cloud: CloudUnderTest, namespace: str, kind: str, item: Any, finalizers: list[str]) -> None:
    # With the version that was read: a controller may be about to remove its own, which must not come back.
    metadata = {"finalizers": finalizers, "resourceVersion": item["metadata"]["resourceVersion"]}
    cloud.kubectl("-n", namespace, "patch", kind, item["metadata"]["name"], "--type=merge", "-p", json.dumps({"metadata": metadata}))


def kill_at(cloud: CloudUnderTest, namespace: str, events: dict[str, Event]) -> None:
    """kill -9 the engine as each of the events is seen. The first time its parent starts it again, which takes longer each time.

    Later it is started without waiting for it, so that the next event is seen while it happens.
    """
    for number, (name, event) in enumerate(events.items()):
        wait_until(lambda event=event: event(cloud, namespace), f"the event: {name}", interval_s=0.05)
        kill_engine(cloud, for_good=number > 0)
        assert event(cloud, namespace), f"the engine is dead, and the state is no more the one of the event: {name}"
        if name in HELD:
            wait_until(lambda kind=HELD[name]: release(cloud, namespace, kind) or True, f"{HELD[name]} to be let go", interval_s=0.1)
        if number > 0:
            start_engine(cloud)
        else:
            wait_until(lambda: len(engine_processes(cloud)) == 2, "the engine to be started again", 90, 0.1)


def create_and_delete(cloud: CloudUnderTest, namespace: str, creation: dict[str, Event], deletion: dict[str, Event]) -> None:
    cloud.apply(cluster_manifest("killed", namespace, workers=1))
    kill_at(cloud, namespace, creation)
    cloud.up()
    cloud.wait_for_cluster(f"{namespace}/killed", 1)
    machines = cloud.items("-n", namespace, "machines")
    assert len(machines) == 1, "a forgotten step would have made a second one"
    for kind in (HELD[name] for name in deletion if name in HELD):
        wait_until(lambda kind=kind: hold(cloud, namespace, kind) or True, f"{kind} to be held", interval_s=0.1)
    cloud.kubectl("-n", namespace, "delete", "cluster", "killed", "--wait=false")
    kill_at(cloud, namespace, deletion)
    cloud.up()
    wait_until(lambda: not cloud.exists("-n", namespace, "cluster", "killed"), "the cluster to go")


@pytest.fixture(autouse=True)
def _alive_at_the_end(cloud: CloudUnderTest, namespace: str) -> Iterator[None]:
    """Whatever a scenario did: the end of its namespace, and the next one, find an engine."""
    yield
    cloud.up()


def test_killed_at_eight_events_of_creation_and_deletion(cloud: CloudUnderTest, namespace: str) -> None:
    creation = {name: CREATION[name] for name in CHOSEN_CREATION}
    create_and_delete(cloud, namespace, creation, {name: DELETION[name] for name in CHOSEN_DELETION})


@pytest.mark.soak
@pytest.mark.parametrize("event", CREATION)
def test_killed_at_each_event_of_creation(cloud: CloudUnderTest, namespace: str, event: str) -> None:
    create_and_delete(cloud, namespace, {event: CREATION[event]}, {})


@pytest.mark.soak
@pytest.mark.parametrize("event", DELETION)
def test_killed_at_each_event_of_deletion(cloud: CloudUnderTest, namespace: str, event: str) -> None:
    create_and_delete(cloud, namespace, {}, {event: DELETION[event]})


def test_deletion_goes_on_with_the_next_engine(cloud: CloudUnderTest, namespace: str, create_cluster: ClusterMaker) -> None:
    create_cluster("orphan")
    kill_engine(cloud, for_good=True)
    cloud.kubectl("-n", namespace, "delete", "cluster", "orphan", "--wait=false")
    wait_until(lambda: _has("kubevirtmachines", "metadata", "deletionTimestamp")(cloud, namespace), "upstream to delete the machine")
    assert cloud.exists("-n", namespace, "vmi"), "nobody is there to remove it"
    cloud.up()
    wait_until(lambda: not cloud.exists("-n", namespace, "cluster", "orphan"), "the cluster to go")


@contextmanager
def engine_with(cloud: CloudUnderTest, *options: str) -> Iterator[None]:
    """An engine with more options than `pilvi up` gives it, in the place of the usual one."""
    kill_engine(cloud, for_good=True)
    argv = [sys.executable, "-m", "pilvi.engine", "--home", str(cloud.home), *options]
    with (cloud.home / "logs" / "engine.log").open("ab") as log, subprocess.Popen(argv, stderr=log, start_new_session=True) as engine:
        try:
            cloud.up()
            yield
        finally:
            engine.kill()
    cloud.up()


def test_stopped_for_longer_than_eviction_takes(cloud: CloudUnderTest, namespace: str, image: Path) -> None:
    """An engine that is silent for so long that its host counts as dead: every other pod is evicted, no machine is."""
    grace = "kube-controller-manager=--node-monitor-grace-period=10s"
    tolerance = "kube-apiserver=--default-unreachable-toleration-seconds=2"
    with engine_with(cloud, "--plane-flag", grace, "--plane-flag", tolerance):
        cluster = f"{namespace}/silent"
        cloud.apply(cluster_manifest("silent", namespace, workers=1))
        (node,) = cloud.wait_for_cluster(cluster, 1)
        workload = Workload(cloud, cluster, image)
        workload.import_image([node])
        workload.apply(deployment("witness", "sleep"))
        (witness,) = workload.wait_for_pods("witness", 1)
        vmi = cloud.get("-n", namespace, "vmi", node)
        host = vmi["status"]["nodeName"]
        cloud.apply([_bystander(namespace, host), _neighbour()])
        signal_engine(cloud, signal.SIGSTOP)

        def evicted() -> bool:
            # Kubernetes evicts nobody while every node of a zone is silent: another one has to be alive.
            _renew_neighbour(cloud)
            return not cloud.exists("-n", namespace, "pod", "bystander") or bool(_deleted_pods(cloud, namespace, "app=bystander"))

        try:
            wait_until(evicted, "a pod without tolerations to be evicted")
            taints = {taint["key"] for taint in cloud.get("node", host)["spec"]["taints"]}
            assert "node.kubernetes.io/unreachable" in taints
            assert not _deleted_pods(cloud, namespace, "kubevirt.io=virt-launcher")
            assert cloud.ready_nodes(cluster) == [node]
        finally:
            signal_engine(cloud, signal.SIGCONT)
            cloud.kubectl("delete", "node", NEIGHBOUR, "--ignore-not-found")
        wait_until(lambda: is_true(cloud.get("node", host), "Ready"), "the host to be Ready again")
        assert cloud.get("-n", namespace, "vmi", node)["metadata"]["uid"] == vmi["metadata"]["uid"]
        (after,) = workload.pods("witness")
        assert after["metadata"]["uid"] == witness["metadata"]["uid"]
        assert after["status"]["containerStatuses"][0]["restartCount"] == 0


def _bystander(namespace: str, host: str) -> dict[str, object]:
    """A pod that is bound to the host and tolerates only what the API server adds."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bystander", "namespace": namespace, "labels": {"app": "bystander"}},
        "spec": {"nodeName": host, "containers": [{"name": "none", "image": "registry.example/none"}]},
    }


def _neighbour() -> dict[str, object]:
    """A node on which nothing runs."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NEIGHBOUR},
        "spec": {"taints": [{"key": "test", "effect": "NoSchedule"}]},
    }


def _renew_neighbour(cloud: CloudUnderTest) -> None:
    """What its kubelet would do: say that it is ready, and say it again."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NEIGHBOUR, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": NEIGHBOUR, "leaseDurationSeconds": 40, "renewTime": now},
    }
    ready = {"type": "Ready", "status": "True", "reason": "Test", "message": "", "lastHeartbeatTime": now, "lastTransitionTime": now}
    status = json.dumps({"status": {"conditions": [ready]}})
    cloud.apply(lease)
    cloud.kubectl("patch", "node", NEIGHBOUR, "--subresource=status", "--type=strategic", "-p", status)


def _deleted_pods(cloud: CloudUnderTest, namespace: str, labels: str) -> list[str]:
    pods = cloud.items("-n", namespace, "pods", "-l", labels)
    return [pod["metadata"]["name"] for pod in pods if pod["metadata"].get("deletionTimestamp")]
