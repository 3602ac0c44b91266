"""Two clusters that are equal in all that their owners chose share nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cloud import CloudUnderTest, cluster_manifest, wait_until
from tests.e2e.conftest import namespaces_of
from tests.e2e.workload import Workload, deployment, service

TEAMS = ("team-a", "team-b")
SERVICE_ADDRESS = "10.96.7.7"


@pytest.fixture(scope="module")
def twins(shared_cloud: CloudUnderTest, image: Path) -> Iterator[list[Workload]]:
    """Clusters `twin` in two namespaces: the same name, pod range and service range, one worker and one web server each."""
    with namespaces_of(shared_cloud, *TEAMS):
        shared_cloud.apply([cluster_manifest("twin", team, workers=1) for team in TEAMS])
        found = [Workload(shared_cloud, f"{team}/twin", image) for team in TEAMS]
        for team, twin in zip(TEAMS, found, strict=True):
            twin.import_image(shared_cloud.wait_for_cluster(twin.cluster, 1))
            web = service("web", 80, 8080)
            web["spec"] |= {"clusterIP": SERVICE_ADDRESS, "selector": {"app": team}}
            twin.apply(deployment(team), web)
            twin.wait_for_pods(team, 1)
        yield found
        for team in TEAMS:  # both, before either namespace is checked for what it has left on the host
            shared_cloud.kubectl("-n", team, "delete", "cluster", "--all", "--wait=false")


def test_equal_addresses_are_another_place_in_each(twins: list[Workload], cloud: CloudUnderTest) -> None:
    nodes = [cloud.items("nodes", cluster=twin.cluster)[0] for twin in twins]
    pods = [twin.wait_for_pods(team, 1)[0] for team, twin in zip(TEAMS, twins, strict=True)]
    assert nodes[0]["spec"]["podCIDR"] == nodes[1]["spec"]["podCIDR"]
    assert _address(nodes[0]) == _address(nodes[1])
    for team, twin, pod in zip(TEAMS, twins, pods, strict=True):
        name = pod["metadata"]["name"]
        for host in (SERVICE_ADDRESS, "web.default.svc.cluster.local", f"{pod['status']['podIP']}:8080"):
            assert twin.fetch(name, f"http://{host}/from-{team}") == name
    for team, other, twin in zip(TEAMS, reversed(TEAMS), twins, strict=True):
        log = twin.kubectl("logs", f"deployment/{team}")
        assert log.count(f"/from-{team} ") >= 3
        assert f"/from-{other} " not in log


def test_credentials_do_not_cross(twins: list[Workload], cloud: CloudUnderTest) -> None:
    """Between the two clusters, and between each and the platform, in both directions; certificates and tokens."""
    places = [None, *(twin.cluster for twin in twins)]
    users = {place: yaml.safe_load(cloud.kubeconfig(place).read_text())["users"][0]["user"] for place in places}
    for credentials in places:
        for target in places:
            answer = _ask(cloud, target, users[credentials])
            assert ("kube-system" in answer) is (credentials == target), f"{credentials} at {target}: {answer}"
    for twin in twins:
        token = {"token": twin.kubectl("create", "token", "default").strip()}
        for target in places:
            answer = _ask(cloud, target, token, "auth", "whoami")
            known = "system:serviceaccount:default:default" in answer
            assert known is (twin.cluster == target), f"token of {twin.cluster} at {target}: {answer}"


def test_the_inside_of_one_is_not_reached_from_the_other(twins: list[Workload], cloud: CloudUnderTest) -> None:
    """The addresses inside are equal, so all that one could aim at is the other router's outer address; it lets nothing in."""
    (pod,) = twins[0].wait_for_pods(TEAMS[0], 1)
    outer = _transit(cloud, TEAMS[1])
    for port in (80, 8080):
        answer = twins[0].kubectl("exec", pod["metadata"]["name"], "--", "/probe", "fetch", f"http://{outer}:{port}/aimed", check=False)
        assert "refused" in answer or "timeout" in answer or "deadline" in answer or "no route" in answer, answer
    assert "/aimed " not in twins[1].kubectl("logs", f"deployment/{TEAMS[1]}")


def test_the_end_of_one_is_not_felt_by_the_other(twins: list[Workload], cloud: CloudUnderTest) -> None:
    (pod,) = twins[1].wait_for_pods(TEAMS[1], 1)
    cloud.kubectl("-n", TEAMS[0], "delete", "cluster", "twin", "--timeout=240s", timeout_s=300)
    wait_until(lambda: not cloud.exists("-n", TEAMS[0], "secrets,vmi"), "the first twin to go")
    name = pod["metadata"]["name"]
    assert twins[1].fetch(name, "http://web.default.svc.cluster.local/") == name
    assert [found["metadata"]["uid"] for found in twins[1].pods(TEAMS[1])] == [pod["metadata"]["uid"]]


def _address(node: Any) -> str:
    return next(str(entry["address"]) for entry in node["status"]["addresses"] if entry["type"] == "InternalIP")


def _ask(cloud: CloudUnderTest, target: str | None, user: dict[str, str], *words: str) -> str:
    """What the API server of `target`, whose certificate is believed, says to this user; asks for its namespaces by default."""
    document = yaml.safe_load(cloud.kubeconfig(target).read_text())
    document["users"][0]["user"] = user
    path = cloud.user_folder / "crossed.conf"
    path.write_text(yaml.safe_dump(document))
    return cloud.kubectl(f"--kubeconfig={path}", *(words or ("get", "namespaces")), check=False)


def _transit(cloud: CloudUnderTest, namespace: str) -> str:
    """The outer address of the router of the Vpc that belongs to this namespace."""
    (vpc,) = (found for found in cloud.items("vpcs") if namespace in (found["metadata"].get("labels") or {}).values())
    return str(vpc["metadata"]["annotations"]["pilvi.dev/transit"]).split("/")[0]
