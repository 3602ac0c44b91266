"""A cluster written down object by object, as people find it in articles and examples."""

from pathlib import Path

import pytest

from tests.e2e.cloud import VERSION, CloudUnderTest, find_condition, is_true, wait_until

MANIFESTS = Path(__file__).parent / "manifests"


@pytest.mark.parametrize("form", ["v1beta1", "v1beta2"])
def test_six_objects_become_a_cluster(form: str, cloud: CloudUnderTest, namespace: str) -> None:
    text = (MANIFESTS / f"six-objects-{form}.yaml").read_text()
    applied = cloud.apply(text, namespace=namespace)
    assert applied.count(" created") == 6, applied
    cluster = f"{namespace}/six"
    (node,) = cloud.wait_for_cluster(cluster, 1)
    assert cloud.get("node", node, cluster=cluster)["status"]["nodeInfo"]["kubeletVersion"] == VERSION
    control_plane = cloud.get("-n", namespace, "kamajicontrolplane", "six")
    assert control_plane["status"]["replicas"] == 1, "what runs is told, not what was asked for"
    machine = cloud.items("-n", namespace, "machines")[0]
    wait_until(lambda: is_true(cloud.get("-n", namespace, "machine", machine["metadata"]["name"]), "Ready"), "the Machine to be Ready")
    # Whoever applies the same file again, as every pipeline does, changes nothing.
    again = cloud.apply(text, namespace=namespace)
    assert again.count(" unchanged") + again.count(" configured") == 6, again
    assert cloud.items("-n", namespace, "machines")[0]["metadata"]["uid"] == machine["metadata"]["uid"]
    cloud.kubectl("-n", namespace, "delete", "cluster", "six", "--timeout=240s", timeout_s=300)
    kinds = "clusters,kamajicontrolplanes,kubevirtclusters,machines,virtualmachines,tenantcontrolplanes,secrets,services,pods"
    wait_until(lambda: not cloud.exists("-n", namespace, kinds), "the objects of the cluster to go")


def test_an_image_that_cannot_be_pulled_is_told(cloud: CloudUnderTest, namespace: str) -> None:
    machine = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "foreign", "namespace": namespace},
        "spec": {
            "runStrategy": "Always",
            "template": {
                "spec": {
                    "domain": {"memory": {"guest": "512Mi"}, "devices": {}},
                    "volumes": [{"name": "root", "containerDisk": {"image": "registry.example/some/node:v1.37.2"}}],
                }
            },
        },
    }
    cloud.apply(machine)

    def told() -> bool:
        found = cloud.get("-n", namespace, "vm", "foreign")
        texts = [str(condition.get("message")) for condition in found.get("status", {}).get("conditions") or []]
        return any("registry.example/some/node:v1.37.2" in text for text in texts)

    wait_until(told, "a condition that names the image", 60)
    assert not is_true(cloud.get("-n", namespace, "vm", "foreign"), "Ready")
    why = cloud.pilvi("why", "-n", namespace, "vm/foreign", check=False).stdout
    assert "registry.example/some/node:v1.37.2" in why
    assert find_condition(cloud.get("-n", namespace, "vm", "foreign"), "Ready") is not None


def test_an_image_that_cannot_be_pulled_is_told_on_every_object_above(cloud: CloudUnderTest, namespace: str) -> None:
    """A person looks at the Cluster or the Machine first, and finds the image named there."""
    image = "registry.example/some/node:v1.37.2"
    text = (MANIFESTS / "six-objects-v1beta2.yaml").read_text()
    assert "image: pilvi.dev/node:1.37.2" in text
    cloud.apply(text.replace("image: pilvi.dev/node:1.37.2", f"image: {image}"), namespace=namespace)
    for kind in ("kubevirtmachines", "machines"):

        def told(kind: str = kind) -> bool:
            conditions = cloud.items("-n", namespace, kind)[0].get("status", {}).get("conditions") or []
            return any(entry["status"] == "False" and image in (entry.get("message") or "") for entry in conditions)

        wait_until(told, f"a condition of {kind} that names the image")

    def explained() -> bool:
        return image in cloud.pilvi("why", f"cluster/{namespace}/six").stdout

    wait_until(explained, "`pilvi why` of the Cluster to name the image", 60, 1)
    printed = cloud.pilvi("why", f"cluster/{namespace}/six").stdout
    assert "ErrImagePull" in printed or "ImagePullBackOff" in printed
    assert "does not answer" in printed, "it says what the registry did"
    (machine,) = (entry for entry in cloud.status()["machines"] if entry["namespace"] == namespace)
    assert image in machine["cause"]
    cloud.kubectl("-n", namespace, "delete", "cluster", "six", "--timeout=240s", timeout_s=300)
