"""Every deletion ends and leaves nothing, in whatever order and state things are.

Three clusters of one namespace each are made at once, to save time; each scenario ends one of them. How one ends that is just
deleted is seen in test_six_objects.py.
"""

import os
import signal
from collections.abc import Iterator

import pytest

from pilvi.lib.hashing import short_hash
from tests.e2e.cloud import CloudUnderTest, cluster_manifest, wait_until
from tests.e2e.conftest import namespaces_of
from tests.e2e.host import things_of

NAMES = ("namespace", "wrong-order", "dead-api")


@pytest.fixture(scope="module")
def namespaces(shared_cloud: CloudUnderTest) -> Iterator[dict[str, str]]:
    """A namespace with a ready cluster `ending` in it, for each scenario by name. That nothing is left is checked at the end."""
    with namespaces_of(shared_cloud, *(f"endings-{name}" for name in NAMES)) as names:
        found = dict(zip(NAMES, names, strict=True))
        shared_cloud.apply([cluster_manifest("ending", namespace, workers=1) for namespace in found.values()])
        for namespace in found.values():
            shared_cloud.wait_for_cluster(f"{namespace}/ending", 1)
        yield found


def hashes_of(cloud: CloudUnderTest, namespace: str) -> list[str]:
    """What the names of everything on the host contain that belongs to the cluster of a namespace."""
    kinds = ("tenantcontrolplanes", "virtualmachineinstances")
    uids = [found["metadata"]["uid"] for kind in kinds for found in cloud.items("-n", namespace, kind)]
    uids += [found["metadata"]["uid"] for found in cloud.items("vpcs") if namespace in (found["metadata"].get("labels") or {}).values()]
    assert len(uids) == 3, uids
    return [short_hash(uid) for uid in uids] + uids


def wait_until_gone(cloud: CloudUnderTest, namespace: str, hashes: list[str]) -> None:
    wait_until(
        lambda: not [thing for thing in things_of(cloud) if any(part in thing for part in hashes)], f"the host to be rid of {namespace}"
    )
    kinds = "clusters,kamajicontrolplanes,kubevirtclusters,machines,virtualmachines,tenantcontrolplanes,secrets,services,pods"
    wait_until(lambda: not cloud.exists("-n", namespace, kinds), f"the objects of the cluster in {namespace} to go")


def test_delete_the_namespace(cloud: CloudUnderTest, namespaces: dict[str, str]) -> None:
    namespace = namespaces["namespace"]
    hashes = hashes_of(cloud, namespace)
    cloud.kubectl("delete", "namespace", namespace, "--timeout=240s", timeout_s=300)
    wait_until_gone(cloud, namespace, hashes)


def test_delete_in_the_wrong_order(cloud: CloudUnderTest, namespaces: dict[str, str]) -> None:
    """What is at the bottom first: infrastructure, keys, control plane, machines; the cluster last."""
    namespace = namespaces["wrong-order"]
    hashes = hashes_of(cloud, namespace)
    for kind in ("kubevirtclusters", "virtualmachines", "secrets", "kamajicontrolplanes", "tenantcontrolplanes", "kubevirtmachines"):
        cloud.kubectl("-n", namespace, "delete", kind, "--all", "--wait=false")
    cloud.kubectl("-n", namespace, "delete", "cluster", "ending", "--timeout=240s", timeout_s=300)
    wait_until_gone(cloud, namespace, hashes)


def test_delete_with_a_dead_tenant_api(cloud: CloudUnderTest, namespaces: dict[str, str]) -> None:
    """The API server hangs and is not restarted, the worst kind of dead: nobody gets an answer, not even a refusal."""
    namespace = namespaces["dead-api"]
    hashes = hashes_of(cloud, namespace)
    for name, pid in cloud.units().items():
        if hashes[0] in name and pid is not None:
            os.kill(pid, signal.SIGSTOP)
    cloud.kubectl("-n", namespace, "delete", "cluster", "ending", "--timeout=240s", timeout_s=300)
    wait_until_gone(cloud, namespace, hashes)
