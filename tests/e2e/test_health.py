"""A worker that is broken for good is replaced."""

import json

from tests.e2e.cloud import CloudUnderTest, cluster_manifest, wait_until
from tests.e2e.host import in_worker


def test_a_worker_with_a_broken_kubelet_is_replaced(cloud: CloudUnderTest, namespace: str) -> None:
    cluster = f"{namespace}/healing"
    manifest = cluster_manifest("healing", namespace, workers=2)
    # Shorter than anybody would want: the test waits for the real thing.
    unhealthy = [{"type": "Ready", "status": status, "timeoutSeconds": 5} for status in ("Unknown", "False")]
    (workers,) = manifest["spec"]["topology"]["workers"]["machineDeployments"]
    workers["healthCheck"] = {"checks": {"nodeStartupTimeoutSeconds": 300, "unhealthyNodeConditions": unhealthy}}
    cloud.apply(manifest)
    # Kubernetes gives a node 50 s by itself. Its kubelet says every 10 s that it is alive, so this is no haste.
    hasty = {"spec": {"controllerManager": {"extraArgs": ["--node-monitor-grace-period=25s"]}}}
    wait_until(lambda: cloud.exists("-n", namespace, "kamajicontrolplane"), "the control plane to be made")
    (made,) = cloud.items("-n", namespace, "kamajicontrolplane")
    cloud.kubectl("-n", namespace, "patch", "kamajicontrolplane", made["metadata"]["name"], "--type=merge", "-p", json.dumps(hasty))
    broken, sound = cloud.wait_for_cluster(cluster, 2)
    old = cloud.get("-n", namespace, "vmi", broken)["metadata"]["uid"]

    in_worker(cloud, namespace, broken, "sh", "-c", "rm $(command -v kubelet) && kill -9 $(pidof kubelet)")

    wait_until(lambda: not cloud.exists("-n", namespace, "machine", broken), "the broken Machine to go")
    nodes = cloud.wait_for_cluster(cluster, 2)
    assert sound in nodes
    assert broken not in nodes
    assert not cloud.exists("node", broken, cluster=cluster)
    wait_until(lambda: old not in {vmi["metadata"]["uid"] for vmi in cloud.items("-n", namespace, "vmi")}, "the broken machine to go")
