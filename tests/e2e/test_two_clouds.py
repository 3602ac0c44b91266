"""A second cloud beside the first: nothing of theirs meets, and the end of one is not felt by the other."""

import pytest
import yaml

from tests.e2e.cloud import CloudUnderTest, CommandError, cluster_manifest, run, wait_until
from tests.e2e.conftest import ClusterMaker
from tests.e2e.host import things_of
from tests.e2e.workload import deployment


def test_two_clouds_side_by_side(cloud: CloudUnderTest, namespace: str, create_cluster: ClusterMaker) -> None:
    mine = create_cluster("same")
    mine.import_image(cloud.ready_nodes(mine.cluster))
    mine.apply(deployment("witness"))
    (witness,) = mine.wait_for_pods("witness", 1)

    other = CloudUnderTest("second")
    try:
        _write_foreign_context(other)
        other.up()
        other.kubectl("create", "namespace", namespace)
        ranges = {each.status()["cloud"]["range"] for each in (cloud, other)}
        assert len(ranges) == 2
        created = other.pilvi("cluster", "create", f"{namespace}/same", "--workers", "1")
        assert "Ready" in created.stdout + created.stderr
        context = f"pilvi-{other.status()['cloud']['id']}/{namespace}/same"
        assert _contexts(other) == {"foreign", f"pilvi-{other.status()['cloud']['id']}", context}
        nodes = run([cloud.kubectl_argv()[0], "--kubeconfig", str(other.user_kubeconfig), "get", "nodes", "-o", "name"])
        assert len(nodes.stdout.split()) == 1, "the new cluster is the current context"
        _keys_do_not_cross(cloud, other, mine.cluster)
    except BaseException:
        other.report("second-cloud")
        raise
    finally:
        other.pilvi("down", "--purge", "--yes")
    assert _contexts(other) == {"foreign"}
    assert not other.home.exists()
    other.discard()

    assert [pod["metadata"]["uid"] for pod in mine.pods("witness")] == [witness["metadata"]["uid"]]
    assert mine.fetch(witness["metadata"]["name"], f"http://{witness['status']['podIP']}:8080/") == witness["metadata"]["name"]
    assert things_of(cloud)
    wait_until(lambda: cloud.status()["clusters"], "the first cloud to answer")


def test_purge_while_clusters_run(cloud: CloudUnderTest) -> None:
    """`down --purge` needs neither engine nor API: here both are asked to do a hundred things at that moment."""
    other = CloudUnderTest("purged")
    other.up()
    other.apply([cluster_manifest(f"half-{number}", "default", workers=1) for number in range(2)])
    wait_until(lambda: other.exists("-n", "default", "tenantcontrolplanes"), "the clusters to be half made")
    printed = other.pilvi("down", "--purge", "--yes")
    assert "Debian packages" in printed.stdout + printed.stderr, "it names what it leaves"
    assert not other.home.exists()
    other.discard()


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
