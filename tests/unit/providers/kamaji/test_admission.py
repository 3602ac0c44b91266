"""What a control plane, its Cluster or a Subnet beside it is told before it is stored."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS, SERVICES
from pilvi.api.controlplane import KamajiControlPlane
from pilvi.api.kubeovn import Subnet
from pilvi.providers import kamaji
from tests.unit.providers.checked import leaving, objections, refusals, warnings
from tests.unit.providers.kamaji.objects import cloud, tenant

CLOUD = cloud()


def running(obj: JsonObject, version: str = "v1.36.3", **labels: str) -> JsonObject:
    status = {"kubernetesResources": {"version": {"version": version}}}
    return {**obj, "metadata": {**obj["metadata"], "labels": labels}, "status": status}


def asked(version: str) -> JsonObject:
    return tenant(kubernetes={"version": version, "kubelet": {}})


def control_plane(version: str = "v1.37.2", **spec: Any) -> JsonObject:
    return KamajiControlPlane.RESOURCE.new(Key("default", "first"), metadata={"uid": "kcp"}, spec={"version": version, **spec})


def of_control_plane(obj: JsonObject) -> JsonObject:
    owner = {"apiVersion": KamajiControlPlane.RESOURCE.api_version, "kind": "KamajiControlPlane", "name": "first", "uid": "kcp"}
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [{**owner, "controller": True}]}}


def cluster(version: str = "v1.37.2") -> JsonObject:
    return CLUSTERS.new(Key("default", "first"), metadata={"uid": "c"}, spec={"topology": {"version": version}})


def subnet(cidr: str, vpc: str | None = None, name: str = "blue") -> JsonObject:
    return Subnet.RESOURCE.new(Key("", name), metadata={"uid": name}, spec={"cidrBlock": cidr, "vpc": vpc})


def service(**metadata: Any) -> JsonObject:
    return SERVICES.new(Key("default", "first"), metadata=metadata, spec={})


def test_a_new_control_plane_is_fine() -> None:
    assert objections(kamaji, CLOUD, tenant(), subnet("10.16.0.0/16"), subnet("10.244.0.0/16", "elsewhere", "far")) == []


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("v1.35.0", "cannot go back to v1.35.0"),
        ("v1.38.0", "cannot skip a minor to v1.38.0; upgrade to v1.37 first"),
        ("v1.36.9", "this cloud has v1.36.3, v1.37.2, v1.38.0"),
    ],
)
def test_versions_go_by_what_runs(wanted: str, words: str) -> None:
    """The object before may have asked for v1.37 already, without having got it."""
    now = running(asked("v1.37.2"), **{"cluster.x-k8s.io/cluster-name": "first"})
    own = of_control_plane(now)
    for obj, other in ((asked(wanted), now), (control_plane(wanted), own), (cluster(wanted), own)):
        (message,) = refusals(kamaji, CLOUD, obj, other)
        assert words in message
    assert refusals(kamaji, CLOUD, asked("v1.37.2"), now) == []


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"podCidr": "10.250.3.0/24"}, "the cloud's range 10.250.3.0/24"),
        ({"serviceCidr": "10.249.0.0/16"}, "the cloud's transit pool"),
        ({"podCidr": "10.7.7.0/24"}, "Subnet blue 10.7.0.0/16"),
        ({"podCidr": "10.96.128.0/20"}, "serviceCidr"),
    ],
)
def test_ranges_that_overlap(profile: dict[str, str], words: str) -> None:
    (message,) = refusals(kamaji, CLOUD, tenant(networkProfile=profile), subnet("10.7.0.0/16"))
    assert words in message
    assert "choose networks that share no address" in message


def test_a_subnet_that_overlaps_a_cluster_of_its_vpc() -> None:
    (message,) = refusals(kamaji, CLOUD, subnet("10.244.7.0/24"), tenant())
    assert "TenantControlPlane default/first: spec.networkProfile.podCidr 10.244.0.0/16 overlaps Subnet blue 10.244.7.0/24" in message
    assert refusals(kamaji, CLOUD, subnet("10.244.7.0/24", "elsewhere"), tenant()) == []
    assert refusals(kamaji, CLOUD, subnet("10.244.7.0/24"), leaving(tenant())) == []


def test_a_subnet_is_not_to_blame_for_a_cluster_that_is_wrong_by_itself() -> None:
    wrong = tenant(networkProfile={"podCidr": "10.96.0.0/16"})
    assert refusals(kamaji, CLOUD, subnet("10.7.0.0/16"), wrong) == []


def test_a_data_store_that_is_not_served() -> None:
    (message,) = refusals(kamaji, CLOUD, tenant(dataStore="mine"))
    assert "spec.dataStore 'mine' is not served here; write default" in message
    (message,) = refusals(kamaji, CLOUD, control_plane(dataStoreName="mine"))
    assert "spec.dataStoreName 'mine'" in message


def test_a_service_of_somebody_else() -> None:
    (message,) = refusals(kamaji, CLOUD, tenant(), service())
    assert "Service default/first is in the way" in message
    owner = {"apiVersion": "kamaji.clastix.io/v1alpha1", "kind": "TenantControlPlane", "name": "first", "uid": "old", "controller": True}
    for own in (service(ownerReferences=[owner]), service(labels={"kamaji.clastix.io/name": "first"}), leaving(service())):
        assert refusals(kamaji, CLOUD, tenant(), own) == []


def test_a_control_plane_of_somebody_else() -> None:
    (message,) = refusals(kamaji, CLOUD, control_plane("v1.36.3"), running(tenant(), "v1.38.0"))
    assert "TenantControlPlane default/first exists and belongs to somebody else" in message
    for own in (of_control_plane(tenant()), leaving(tenant())):
        assert refusals(kamaji, CLOUD, control_plane(), own) == []


def test_the_name_of_a_cluster_is_only_warned_of() -> None:
    """A class of the user's may call its control planes otherwise."""
    for other, words in ((tenant(), "TenantControlPlane default/first exists"), (service(), "Service default/first is in the way")):
        assert refusals(kamaji, CLOUD, cluster(), other) == []
        (message,) = warnings(kamaji, CLOUD, cluster(), other)
        assert words in message
    assert warnings(kamaji, CLOUD, cluster(), running(tenant(), **{"cluster.x-k8s.io/cluster-name": "first"})) == []
