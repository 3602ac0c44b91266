"""A second cloud beside the first: nothing of theirs meets, and the end of one is not felt by the other."""

from ipaddress import IPv4Network

import pytest
import yaml

from pilvi.host.cloud import get_cloud
from tests.e2e.cloud import CloudUnderTest, CommandError, cluster_manifest, wait_until
from tests.e2e.conftest import ClusterMaker
from tests.e2e.host import host_as_before, things_of
from tests.e2e.workload import Workload, deployment


def test_two_clouds_side_by_side(cloud: CloudUnderTest, namespace: str, create_cluster: ClusterMaker) -> None:
    """Each has a cluster of the same name; one cloud is purged while it makes one more, and leaves nothing but the other."""
    mine = create_cluster("same")
    mine.import_image(cloud.ready_nodes(mine.cluster))
    mine.apply(deployment("witness"))
    (witness,) = mine.wait_for_pods("witness", 1)
    things = things_of(cloud)
    with host_as_before():
        _live_and_end(cloud, namespace, mine)
    wait_until(lambda: things_of(cloud) == things, lambda: f"the first cloud to be as it was: {sorted(things_of(cloud) ^ things)}", 30)
    assert [pod["metadata"]["uid"] for pod in mine.pods("witness")] == [witness["metadata"]["uid"]]
    assert mine.fetch(witness["metadata"]["name"], f"http://{witness['status']['podIP']}:8080/") == witness["metadata"]["name"]
    (unharmed,) = (entry for entry in cloud.status()["clusters"] if entry["namespace"] == namespace)
    assert unharmed["ready"]


def _live_and_end(cloud: CloudUnderTest, namespace: str, mine: Workload) -> None:
    """The second cloud, from its first `up` to its purge."""
    other = CloudUnderTest("second")
    try:
        _write_foreign_context(other)
        other.up()
        _have_nothing_in_common(cloud, other)
        other.kubectl("create", "namespace", namespace)
        other.pilvi("cluster", "create", f"{namespace}/same", "--workers", "1")
        _keys_do_not_cross(cloud, other, mine.cluster)
        platform = f"pilvi-{other.status()['cloud']['id']}"
        assert _contexts(other) == {"foreign", platform, f"{platform}/{namespace}/same"}
        other.apply(cluster_manifest("half-made", "default", workers=1))
        wait_until(lambda: other.exists("-n", "default", "tenantcontrolplane", "half-made"), "the last cluster to be half made")
    except BaseException:
        other.report("second-cloud")
        raise
    finally:
        printed = other.pilvi("down", "--purge", "--yes")
    assert "Debian packages, the kit in" in printed.stdout + printed.stderr, "it names what it leaves"
    assert _contexts(other) == {"foreign"}
    assert not other.home.exists()
    other.discard()


def _have_nothing_in_common(one: CloudUnderTest, other: CloudUnderTest) -> None:
    first, second = get_cloud(one.home), get_cloud(other.home)
    assert first.id != second.id
    ranges: list[IPv4Network] = [first.range, first.transit, second.range, second.transit]
    assert not any(a.overlaps(b) for index, a in enumerate(ranges) for b in ranges[index + 1 :])
    assert not set(first.uids) & set(second.uids)


def _write_foreign_context(cloud: CloudUnderTest) -> None:
    entry = {"name": "foreign", "cluster": {"server": "https://foreign.example:6443"}}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [entry],
        "users": [{"name": "foreign", "user": {"token": "x"}}],
        "contexts": [{"name": "foreign", "context": {"cluster": "foreign", "user": "foreign"}}],
        "current-context": "foreign",
    }
    cloud.user_kubeconfig.write_text(yaml.safe_dump(document))


def _contexts(cloud: CloudUnderTest) -> set[str]:
    return {context["name"] for context in yaml.safe_load(cloud.user_kubeconfig.read_text())["contexts"]}


def _keys_do_not_cross(one: CloudUnderTest, other: CloudUnderTest, cluster: str) -> None:
    """The other cloud's authorities are others, so its servers are not even believed."""
    server = yaml.safe_load(other.kubeconfig().read_text())["clusters"][0]["cluster"]["server"]
    for where in (None, cluster):
        with pytest.raises(CommandError, match="certificate"):
            one.kubectl("--server", server, "get", "namespaces", cluster=where)
