"""From spec to the data of the processes."""

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.object import decode
from pilvi.controlplane import API_SERVER, SCHEDULER
from pilvi.errors import UserError
from pilvi.providers.kamaji.tenantcontrolplane.plane import check_networks, kubeadm_options, spec_of
from tests.unit.providers.kamaji.objects import ADDRESS, cloud, plane, tenant


def test_defaults() -> None:
    made = plane()
    assert made.endpoint == "10.250.3.7:6443"
    assert made.netns.startswith("pv-aaaaa-cp-")
    assert made.name == made.netns.removeprefix("pv-aaaaa-")
    assert (made.pod_cidr, made.service_cidr) == (IPv4Network("10.244.0.0/16"), IPv4Network("10.96.0.0/16"))
    assert made.dns_address == IPv4Address("10.96.0.10")
    assert made.cluster_name == "first"
    assert "first.default.svc" in made.server_names
    assert made.admission_plugins == ("LimitRanger", "NodeRestriction")


def test_nulls_as_people_write_them() -> None:
    made = plane(tenant(controlPlane={"deployment": None, "service": {"serviceType": "LoadBalancer"}}, addons=None, networkProfile=None))
    assert made.port == 6443


def test_every_field_arrives() -> None:
    made = plane(
        tenant(
            networkProfile={
                "port": 7443,
                "podCidr": "10.1.0.0/16",
                "serviceCidr": "10.2.0.0/16",
                "clusterDomain": "corp.example",
                "advertiseAddress": "10.250.3.9",
                "certSANs": ["api.example.org:6443", "192.0.2.4", "*.example.net"],
                "dnsServiceIPs": ["10.2.0.53"],
            },
            controlPlane={
                "service": {"serviceType": "LoadBalancer"},
                "deployment": {"extraArgs": {"apiServer": ["--v=4"], "scheduler": ["--profiling=true"]}},
            },
        )
    )
    assert made.endpoint == "10.250.3.7:7443"
    assert made.advertise_address == IPv4Address("10.250.3.9")
    assert "api.example.org" in made.server_names
    assert "*.example.net" in made.server_names
    assert made.server_addresses == (IPv4Address("192.0.2.4"),)
    assert made.dns_address == IPv4Address("10.2.0.53")
    assert made.extra_flags[API_SERVER] == ("--v=4",)
    assert made.extra_flags[SCHEDULER] == ("--profiling=true",)
    assert made.cluster_domain == "corp.example"


def test_cgroup_driver_reaches_kubeadm() -> None:
    typed = decode(TenantControlPlane, tenant(kubernetes={"version": "v1.37.2", "kubelet": {"cgroupfs": "cgroupfs"}}))
    assert kubeadm_options(spec_of(typed)).kubelet == {"cgroupDriver": "cgroupfs"}


@pytest.mark.parametrize(
    ("profile", "field"),
    [
        ({"podCidr": "10.0.0.1/16"}, "podCidr"),
        ({"serviceCidr": "fd00::/64"}, "serviceCidr"),
        ({"serviceCidr": "10.2.0.0/29"}, "serviceCidr"),
        ({"dnsServiceIPs": ["10.9.0.10"]}, "dnsServiceIPs"),
        ({"dnsServiceIPs": ["dns"]}, "dnsServiceIPs"),
        ({"advertiseAddress": "host"}, "advertiseAddress"),
        ({"certSANs": ["http://x"]}, "certSANs"),
    ],
)
def test_what_cannot_be_names_the_field(profile: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match=field):
        plane(tenant(networkProfile=profile))


def test_an_argument_that_is_no_flag() -> None:
    deployment = {"extraArgs": {"controllerManager": ["v=4"]}}
    with pytest.raises(UserError, match=r"extraArgs\.controllerManager"):
        plane(tenant(controlPlane={"service": {"serviceType": "LoadBalancer"}, "deployment": deployment}))


@pytest.mark.parametrize(
    ("profile", "other"),
    [
        ({"podCidr": "10.250.0.0/16"}, "the cloud's range"),
        ({"serviceCidr": "10.7.0.0/24"}, "Subnet blue"),
        ({"podCidr": "10.96.128.0/20"}, "serviceCidr"),
    ],
)
def test_overlaps_are_named(profile: dict[str, Any], other: str) -> None:
    spec = spec_of(decode(TenantControlPlane, tenant(networkProfile=profile)))
    with pytest.raises(UserError, match=other):
        check_networks(spec, {"the cloud's range": cloud().range, "Subnet blue": IPv4Network("10.7.0.0/16")})


def test_subnets_that_overlap_each_other_are_not_our_matter() -> None:
    both = IPv4Network("10.7.0.0/16")
    check_networks(spec_of(decode(TenantControlPlane, tenant())), {"Subnet a": both, "Subnet b": both})


def test_the_plane_is_at_the_cloud_address() -> None:
    assert plane().address == ADDRESS
