"""A worker of a cluster as a virtual machine: the same Cluster, the same kubeadm, a kernel of its own."""

import pytest

from tests.e2e.cloud import CloudUnderTest, cluster_manifest, find_condition, is_true, wait_until


@pytest.mark.soak  # two and a half minutes where the processor is emulated
def test_a_worker_with_a_kernel_of_its_own_joins_and_runs_pods(cloud: CloudUnderTest, namespace: str) -> None:
    manifest = cluster_manifest("hardware", namespace, workers=1)
    manifest["spec"]["topology"]["variables"] = [{"name": "machine", "value": "qemu"}]
    cloud.apply(manifest)
    cluster = f"{namespace}/hardware"
    (name,) = cloud.wait_for_cluster(cluster, 1)
    node = cloud.get("node", name, cluster=cluster)
    assert node["metadata"]["labels"]["pilvi.dev/machine"] == "qemu"
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vmi", name), "pilvi.dev/FirstBoot"), "the word that kubeadm has joined")
    vmi = cloud.get("-n", namespace, "vmi", name)
    assert find_condition(vmi, "pilvi.dev/Fidelity")["reason"] in ("Kvm", "Tcg")
    (address,) = {entry["address"] for entry in node["status"]["addresses"] if entry["type"] == "InternalIP"}
    assert address == vmi["status"]["interfaces"][0]["ipAddress"]
    (host,) = cloud.items("nodes")
    assert node["status"]["nodeInfo"]["kernelVersion"] != host["status"]["nodeInfo"]["kernelVersion"]
    logs = cloud.kubectl("-n", "kube-system", "logs", "deployment/coredns", cluster=cluster)
    assert "CoreDNS" in logs, "the API server reaches the kubelet of the machine"
    assert "first boot ended with exit code 0" in cloud.pilvi("logs", f"{namespace}/{name}").stdout
