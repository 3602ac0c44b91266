"""The worst that can happen to a running cloud: every process dies, and what was in memory is gone."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.e2e.cloud import CloudUnderTest, cluster_manifest, wait_until
from tests.e2e.conftest import cloud_of_its_own
from tests.e2e.host import cut_power, in_worker
from tests.e2e.workload import Workload, deployment, service

CLUSTER = "default/sturdy"
WEB = "web"


@pytest.fixture(scope="module")
def own() -> Iterator[CloudUnderTest]:
    with cloud_of_its_own("power") as cloud:
        yield cloud


@pytest.fixture(scope="module")
def sturdy(own: CloudUnderTest, image: Any) -> Workload:
    """A cluster with one worker and a web server on it."""
    own.apply(cluster_manifest("sturdy", "default", workers=1))
    nodes = own.wait_for_cluster(CLUSTER, 1)
    workload = Workload(own, CLUSTER, image)
    workload.import_image(nodes)
    workload.apply(deployment(WEB), service(WEB, 80, 8080))
    workload.wait_for_pods(WEB, 1)
    return workload


def kind_of(unit: str) -> str:
    """The kind of a unit: its name without what tells it from others of its kind."""
    head, _, tail = unit.partition("-")
    if head in ("cp", "vpc"):
        return f"{head}-{tail.partition('-')[2]}"
    return "machine" if head == "m" else unit


def check_service(sturdy: Workload) -> None:
    """The cluster works: its worker is ready, a pod runs, names and Services are found, and it is still the same machine."""
    sturdy.cloud.wait_for_cluster(CLUSTER, 1)
    (pod,) = sturdy.wait_for_pods(WEB, 1)
    assert sturdy.fetch(pod["metadata"]["name"], f"http://{WEB}.default.svc.cluster.local/") == pod["metadata"]["name"]


def test_each_kind_of_unit_is_killed_and_comes_back(own: CloudUnderTest, sturdy: Workload) -> None:
    by_kind = {kind_of(name): name for name in own.units()}
    assert {"machine", "cp-etcd", "cp-kube-apiserver", "plane-etcd", "plane-kube-apiserver", "capi-core", "vpc-dns"} <= set(by_kind)
    for unit in by_kind.values():
        pid = own.units()[unit]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda unit=unit, pid=pid: own.units()[unit] not in (None, pid), f"unit {unit} to run again", interval_s=0.2)
    check_service(sturdy)


def test_down_keeps_everything(own: CloudUnderTest, sturdy: Workload) -> None:
    before = facts(own, sturdy)
    own.pilvi("down")
    assert not own.units()
    own.up()
    check_service(sturdy)
    assert facts(own, sturdy) == before


def test_power_cut(own: CloudUnderTest, sturdy: Workload) -> None:
    (node,) = own.ready_nodes(CLUSTER)
    note = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "note"}, "data": {"text": "written before the cut"}}
    own.apply(note)
    own.apply(note, cluster=CLUSTER)
    in_worker(own, "default", node, "sh", "-c", "echo precious > /var/note && sync /var/note")
    before = facts(own, sturdy)

    cut_power(own)
    own.up()

    check_service(sturdy)
    assert facts(own, sturdy) == before
    for cluster in (None, CLUSTER):
        assert own.get("configmap", "note", cluster=cluster)["data"] == note["data"]
    assert in_worker(own, "default", node, "cat", "/var/note") == "precious\n"


def facts(own: CloudUnderTest, sturdy: Workload) -> dict[str, object]:
    """What must be the same afterwards: identities, addresses, keys."""
    with suppress(FileNotFoundError):
        own.kubeconfig(CLUSTER).unlink()  # so that it is fetched anew
    kinds = ("clusters", "machines", "virtualmachineinstances", "tenantcontrolplanes", "vpcs", "subnets", "ips")
    found: dict[str, object] = {kind: sorted(item["metadata"]["uid"] for item in own.items("-A", kind)) for kind in kinds}
    found["node"] = own.items("nodes", cluster=CLUSTER)[0]["metadata"]["uid"]
    found["kubeconfig"] = own.kubeconfig(CLUSTER).read_text()
    found["addresses"] = sorted(item["spec"].get("ipAddress", "") for item in own.items("ips"))
    return found
