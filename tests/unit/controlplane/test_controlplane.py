"""A control plane as data: flags, keys, files, kubeadm's configuration."""

import os
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from pilvi.controlplane import (
    ADDON_COREDNS,
    ADDON_KUBE_PROXY,
    API_SERVER,
    COMPONENTS,
    CONTROLLER_MANAGER,
    SCHEDULER,
    UPLOAD_CONFIG,
    AddonImage,
    ControlPlane,
    KubeadmOptions,
    create_keys,
    file_set,
    install_files,
    kubeadm_config,
    renew_leaves,
    unit_names,
    unit_spec,
)
from pilvi.controlplane.components import flags
from pilvi.controlplane.spec import merge_flags
from pilvi.host.units import CgroupLimits


def make_plane(folder: Path, **fields: object) -> ControlPlane:
    defaults: dict[str, object] = {
        "name": "cp-0a1b2c3d",
        "cluster_name": "first",
        "version": "v1.37.2",
        "netns": "pv-abcde-cp-0a1b2c3d",
        "address": IPv4Address("10.250.0.11"),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "data_dir": folder / "data",
        "log_dir": folder / "logs",
    }
    return ControlPlane(**(defaults | fields))  # type: ignore[arg-type]


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    return make_plane(tmp_path)


def test_user_flags_replace_ours_and_may_repeat() -> None:
    merged = merge_flags(("--a=1", "--b=2"), ("--b=3", "--c=4", "--c=5"))
    assert merged == ("--a=1", "--b=3", "--c=4", "--c=5")


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_flag_is_given_once(plane: ControlPlane, component: str) -> None:
    names = [flag.partition("=")[0] for flag in flags(plane, component)]
    assert len(names) == len(set(names))


def test_every_file_that_a_flag_names_is_in_the_file_set(plane: ControlPlane) -> None:
    written = {str(file.path) for file in file_set(plane, create_keys(plane))}
    for component in COMPONENTS:
        named = {flag.partition("=")[2] for flag in flags(plane, component)}
        missing = {value for value in named if value.endswith((".crt", ".key", ".pub", ".conf"))} - written
        assert not missing, component


def test_user_flags_reach_the_component(tmp_path: Path) -> None:
    plane = make_plane(tmp_path, extra_flags={API_SERVER: ("--profiling=true",)})
    assert "--profiling=true" in flags(plane, API_SERVER)
    assert "--profiling=false" not in flags(plane, API_SERVER)


def test_the_scheduler_has_a_file_unless_a_flag_would_be_ignored_beside_it(tmp_path: Path) -> None:
    plane = make_plane(tmp_path)
    assert f"--config={plane.scheduler_config}" in flags(plane, SCHEDULER)
    config = next(file for file in file_set(plane, create_keys(plane)) if file.path == plane.scheduler_config)
    document = yaml.safe_load(config.data)
    assert document["clientConnection"]["kubeconfig"] == str(plane.kubeconfig("scheduler"))
    assert document["leaderElection"] == {"leaderElect": False}
    asked = flags(make_plane(tmp_path, extra_flags={SCHEDULER: ("--kube-api-qps=9",)}), SCHEDULER)
    assert "--kube-api-qps=9" in asked
    assert f"--kubeconfig={plane.kubeconfig('scheduler')}" in asked
    assert not any(flag.startswith("--config=") for flag in asked)


def test_a_plane_without_pod_range_allocates_no_node_ranges(tmp_path: Path) -> None:
    assert "--allocate-node-cidrs=false" in flags(make_plane(tmp_path, pod_cidr=None), CONTROLLER_MANAGER)


def test_the_server_certificate_names_every_way_to_the_api_server(tmp_path: Path) -> None:
    plane = make_plane(
        tmp_path, server_names=("api.example.org",), service_cidr=IPv4Network("10.97.0.0/16"), cluster_domain="example.local"
    )
    leaf = x509.load_pem_x509_certificate(create_keys(plane).leaves["apiserver"].certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"api.example.org", "kubernetes.default.svc.example.local"} <= set(names.get_values_for_type(x509.DNSName))
    assert {plane.address, IPv4Address("10.97.0.1")} <= set(names.get_values_for_type(x509.IPAddress))


def test_only_leaves_that_end_soon_are_renewed(plane: ControlPlane) -> None:
    keys = create_keys(plane, lifetime=timedelta(hours=3))
    now = datetime.now(UTC)
    assert renew_leaves(plane, keys, now) == (keys, frozenset())
    renewed, names = renew_leaves(plane, keys, now + timedelta(hours=2, minutes=30))
    assert names == keys.leaves.keys()
    assert renewed.authorities == keys.authorities
    assert renewed.leaves["admin"] != keys.leaves["admin"]


def test_installing_writes_private_files_and_tells_what_changed(plane: ControlPlane) -> None:
    keys = create_keys(plane)
    written = install_files(plane, file_set(plane, keys))
    assert {path.stat().st_mode & 0o777 for path in written} == {0o640}
    assert plane.pki_dir.stat().st_mode & 0o777 == 0o750
    assert (plane.data_dir / "etcd").stat().st_mode & 0o777 == 0o700
    assert install_files(plane, file_set(plane, keys)) == frozenset()
    assert not any(b"PRIVATE" in repr(file).encode() for file in file_set(plane, keys))


def test_no_authority_key_but_the_signing_one_reaches_the_disk(plane: ControlPlane) -> None:
    names = {file.path.name for file in file_set(plane, create_keys(plane))}
    assert "ca.key" in names
    assert not {"front-proxy-ca.key", "etcd-ca.key"} & names


def test_kubeadm_learns_the_planes_own_ranges(tmp_path: Path) -> None:
    plane = make_plane(tmp_path, service_cidr=IPv4Network("10.97.0.0/16"), endpoint_host="api.example.org", port=7443)
    documents = {document["kind"]: document for document in yaml.safe_load_all(kubeadm_config(plane, KubeadmOptions()))}
    cluster = documents["ClusterConfiguration"]
    assert cluster["controlPlaneEndpoint"] == "api.example.org:7443"
    assert cluster["networking"] == {"dnsDomain": "cluster.local", "serviceSubnet": "10.97.0.0/16", "podSubnet": "10.244.0.0/16"}
    assert documents["KubeletConfiguration"]["clusterDNS"] == ["10.97.0.10"]
    assert documents["KubeProxyConfiguration"]["mode"] == "nftables"


def test_kubelets_ask_every_resolver_that_is_given(tmp_path: Path) -> None:
    plane = make_plane(tmp_path, dns_addresses=(IPv4Address("10.96.0.53"), IPv4Address("10.96.0.54")))
    documents = {document["kind"]: document for document in yaml.safe_load_all(kubeadm_config(plane, KubeadmOptions()))}
    assert documents["KubeletConfiguration"]["clusterDNS"] == ["10.96.0.53", "10.96.0.54"]
    assert plane.dns_address == IPv4Address("10.96.0.53")


def test_images_of_add_ons_reach_their_phases_only(plane: ControlPlane) -> None:
    options = KubeadmOptions(dns_image=AddonImage("mirror.example/dns", "v9"), proxy_image=AddonImage("mirror.example", "v1.37.1"))

    def cluster(phase: tuple[str, ...]) -> dict[str, object]:
        found = next(each for each in yaml.safe_load_all(kubeadm_config(plane, options, phase)) if each["kind"] == "ClusterConfiguration")
        return {name: found.get(name) for name in ("dns", "imageRepository", "kubernetesVersion")}

    dns = {"imageRepository": "mirror.example/dns", "imageTag": "v9"}
    assert cluster(ADDON_KUBE_PROXY) == {"dns": dns, "imageRepository": "mirror.example", "kubernetesVersion": "v1.37.1"}
    for phase in (UPLOAD_CONFIG, ADDON_COREDNS):
        assert cluster(phase) == {"dns": dns, "imageRepository": None, "kubernetesVersion": "v1.37.2"}


def test_limits_bound_the_component_that_they_are_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.kit.get_binary", lambda name, version: Path("/kit") / name)
    limits = CgroupLimits(memory_bytes=1 << 30, cpu_milli=500)
    plane = make_plane(tmp_path, limits={API_SERVER: limits})
    assert {component: unit_spec(plane, component).cgroup for component in COMPONENTS} == {
        component: CgroupLimits(memory_bytes=1 << 30, cpu_milli=500, pids=1024) if component == API_SERVER else CgroupLimits(pids=1024)
        for component in COMPONENTS
    }


def test_units_stop_with_etcd_last() -> None:
    assert unit_names("plane")[-1] == "plane-etcd"
