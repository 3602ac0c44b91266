"""Workers come and go, and what runs on them is moved as its owners allow."""

from tests.e2e.cloud import CloudUnderTest, find_condition, wait_until
from tests.e2e.conftest import ClusterMaker
from tests.e2e.workload import deployment

APP = "guarded"


def test_scale_up_and_down_with_a_disruption_budget(cloud: CloudUnderTest, namespace: str, create_cluster: ClusterMaker) -> None:
    workload = create_cluster("scaling", workers=1)
    cloud.pilvi("cluster", "scale", workload.cluster, "--workers", "3")
    nodes = cloud.wait_for_cluster(workload.cluster, 3)
    workload.import_image(nodes)
    workload.apply(deployment(APP, replicas=3), _budget(3))
    spread = {pod["spec"]["nodeName"] for pod in workload.wait_for_pods(APP, 3)}
    assert spread == set(nodes)

    cloud.pilvi("cluster", "scale", workload.cluster, "--workers", "1", "--no-wait")
    wait_until(lambda: _draining(cloud, namespace) == 2, "two Machines that wait for the budget")
    assert len(workload.pods(APP)) == 3, "nothing is evicted while the budget allows none"
    assert len(cloud.ready_nodes(workload.cluster)) == 3

    workload.apply(_budget(2))
    fewest = [3]

    def scaled_down() -> bool:
        # Cluster API tries to drain again after 20 s, or when a Machine changes.
        cloud.kubectl("-n", namespace, "annotate", "machines", "--all", "--overwrite", f"test.pilvi.dev/look={len(fewest)}")
        fewest.append(len(workload.pods(APP)))
        return len(cloud.items("-n", namespace, "machines")) == 1

    wait_until(scaled_down, "two Machines to go", interval_s=1)
    assert min(fewest) >= 2, "the budget held to the end"
    workload.wait_for_pods(APP, 3)
    (node,) = cloud.wait_for_cluster(workload.cluster, 1)
    assert {pod["spec"]["nodeName"] for pod in workload.pods(APP)} == {node}
    assert len(cloud.items("-n", namespace, "vmi")) == 1


def _budget(available: int) -> dict[str, object]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": APP},
        "spec": {"minAvailable": available, "selector": {"matchLabels": {"app": APP}}},
    }


def _draining(cloud: CloudUnderTest, namespace: str) -> int:
    machines = [machine for machine in cloud.items("-n", namespace, "machines") if machine["metadata"].get("deletionTimestamp")]
    return sum((find_condition(machine, "Deleting") or {}).get("reason") == "DrainingNode" for machine in machines)
