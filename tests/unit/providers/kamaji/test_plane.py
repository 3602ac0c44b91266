"""From spec to the data of the processes."""

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.object import decode
from pilvi.controlplane import API_SERVER, SCHEDULER, AddonImage
from pilvi.errors import UserError
from pilvi.host.units import CgroupLimits
from pilvi.providers.kamaji.tenantcontrolplane.inside import digest
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
                "dnsServiceIPs": ["10.2.0.53", "10.2.0.54"],
            },
            controlPlane={
                "service": {"serviceType": "LoadBalancer"},
                "deployment": {
                    "extraArgs": {"apiServer": ["--v=4"], "scheduler": ["--profiling=true"]},
                    "resources": {"apiServer": {"limits": {"memory": "1Gi", "cpu": "1500m"}}, "scheduler": {"requests": {"cpu": 1}}},
                },
            },
        )
    )
    assert made.endpoint == "10.250.3.7:7443"
    assert made.advertise_address == IPv4Address("10.250.3.9")
    assert "api.example.org" in made.server_names
    assert "*.example.net" in made.server_names
    assert made.server_addresses == (IPv4Address("192.0.2.4"),)
    assert made.dns_addresses == (IPv4Address("10.2.0.53"), IPv4Address("10.2.0.54"))
    assert made.limits == {API_SERVER: CgroupLimits(memory_bytes=1024**3, cpu_milli=1500)}
    assert made.extra_flags[API_SERVER] == ("--v=4",)
    assert made.extra_flags[SCHEDULER] == ("--profiling=true",)
    assert made.cluster_domain == "corp.example"


def test_cgroup_driver_reaches_kubeadm() -> None:
    typed = decode(TenantControlPlane, tenant(kubernetes={"version": "v1.37.2", "kubelet": {"cgroupfs": "cgroupfs"}}))
    assert kubeadm_options(spec_of(typed)).kubelet == {"cgroupDriver": "cgroupfs"}


def test_images_of_add_ons_reach_kubeadm() -> None:
    addons = {
        "coreDNS": {"imageRepository": "mirror.example/dns"},
        "kubeProxy": {"imageRepository": "mirror.example", "imageTag": "v1.37.1"},
    }
    options = kubeadm_options(spec_of(decode(TenantControlPlane, tenant(addons=addons))))
    assert options.dns_image == AddonImage("mirror.example/dns", None)
    assert options.proxy_image == AddonImage("mirror.example", "v1.37.1")


@pytest.mark.parametrize("tag", ["latest", "1.37.2", "v1.37"])
def test_a_tag_that_kubeadm_would_not_take_as_it_is(tag: str) -> None:
    spec = spec_of(decode(TenantControlPlane, tenant(addons={"kubeProxy": {"imageTag": tag}})))
    with pytest.raises(UserError, match=r"kubeProxy\.imageTag"):
        kubeadm_options(spec)


def test_another_image_of_an_add_on_is_written_into_the_cluster() -> None:
    specs = [
        spec_of(decode(TenantControlPlane, tenant(addons={"coreDNS": {}, "kubeProxy": {}, **addon})))
        for addon in ({}, {"coreDNS": {"imageTag": "v9"}}, {"kubeProxy": {"imageRepository": "mirror.example"}})
    ]
    assert len({digest(plane(), spec) for spec in specs}) == 3


@pytest.mark.parametrize(("name", "value"), [("memory", "0"), ("cpu", "1m")])
def test_a_limit_that_is_none(name: str, value: str) -> None:
    deployment = {"resources": {"controllerManager": {"limits": {name: value}}}}
    with pytest.raises(UserError, match=rf"resources\.controllerManager\.limits\.{name}"):
        plane(tenant(controlPlane={"service": {"serviceType": "LoadBalancer"}, "deployment": deployment}))


@pytest.mark.parametrize(
    ("profile", "field"),
    [
        ({"podCidr": "10.0.0.1/16"}, "podCidr"),
        ({"serviceCidr": "fd00::/64"}, "serviceCidr"),
        ({"serviceCidr": "10.2.0.0/29"}, "serviceCidr"),
        ({"dnsServiceIPs": ["10.9.0.10"]}, "dnsServiceIPs"),
        ({"dnsServiceIPs": ["10.96.0.10", "10.9.0.10"]}, "dnsServiceIPs"),
        ({"dnsServiceIPs": ["dns"]}, "dnsServiceIPs"),
        ({"advertiseAddress": "host"}, "advertiseAddress"),
        ({"certSANs": ["http://x"]}, "certSANs"),
    ],
)
def test_what_cannot_be_names_the_field(profile: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match=field):
        plane(tenant(networkProfile=profile))


def with_arguments(component: str, *arguments: str) -> JsonObject:
    deployment = {"extraArgs": {component: list(arguments)}}
    return tenant(controlPlane={"service": {"serviceType": "LoadBalancer"}, "deployment": deployment})


@pytest.mark.parametrize(
    ("component", "argument", "hint"),
    [
        ("controllerManager", "v=4", "--name=value"),
        ("apiServer", "--audit-log-path=/dev/shm/x", "no files but its own"),
        ("apiServer", "--token-auth-file=/etc/passwd", "no files but its own"),
        ("apiServer", "--token-auth-file=../../../../etc/passwd", "no files but its own"),
        ("apiServer", "--token-auth-file=etcd/../../x", "no files but its own"),
        ("apiServer", "--/../../etc/passwd", "no files but its own"),
        ("apiServer", "--tls-sni-cert-key=a.crt,/etc/shadow", "no files but its own"),
        ("apiServer", '--service-account-key-file="/etc/passwd"', "no files but its own"),
        ("apiServer", "--encryption-provider-config=unix:///run/x", "no files but its own"),
        ("scheduler", "--config=/etc/passwd", "no files but its own"),
        ("apiServer", "--etcd-servers=https://192.0.2.1:2379", "leave it out"),
        ("apiServer", "--etcd_servers=https://192.0.2.1:2379", "leave it out"),
        ("apiServer", "--bind-address", "leave it out"),
        ("apiServer", "--secure-port=7443", "spec.networkProfile.port"),
        ("controllerManager", "--cluster-cidr=10.0.0.0/8", "spec.networkProfile.podCidr"),
    ],
)
def test_an_argument_that_may_not_be_names_its_field_and_what_to_do(component: str, argument: str, hint: str) -> None:
    with pytest.raises(UserError, match=rf"extraArgs\.{component}") as caught:
        plane(with_arguments(component, "--v=2", argument))
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "argument",
    [
        "--audit-log-path=-",
        "--authorization-always-allow-paths=/healthz,/readyz",
        "--cors-allowed-origins=//localhost(:|$)",
        "--oidc-issuer-url=https://accounts.example/realms/x",
        "--feature-gates=A=true,B=false",
        "--runtime-config=api/all=true",
        "--profiling",
    ],
)
def test_an_argument_that_may_be(argument: str) -> None:
    assert plane(with_arguments("apiServer", argument)).extra_flags[API_SERVER] == (argument,)


def test_a_control_plane_may_name_files_of_its_own() -> None:
    argument = f"--audit-log-path={plane().data_dir}/etcd/audit.log"
    assert plane(with_arguments("apiServer", argument)).extra_flags[API_SERVER] == (argument,)


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
