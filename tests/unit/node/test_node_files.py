"""What containerd and the kubelet are told."""

import json
import tomllib

from pilvi.node.containerd import cni_template, containerd_config, registry_files
from pilvi.node.kubelet import kubelet_drop_in, kubelet_extra_arguments


def test_containerd_keeps_the_pause_image_and_takes_the_template() -> None:
    config = tomllib.loads(containerd_config("registry/pause:1", systemd_cgroups=False).decode())
    plugins = config["plugins"]
    assert plugins["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == "registry/pause:1"
    runtime = plugins["io.containerd.cri.v1.runtime"]
    assert runtime["restrict_oom_score_adj"] is True
    assert runtime["cni"]["conf_template"] == "/etc/containerd/cni.template"
    assert runtime["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is False
    assert tomllib.loads(containerd_config("p", systemd_cgroups=True).decode()) != config


def test_cni_template_is_json_once_containerd_has_filled_it() -> None:
    text = cni_template(1450).decode()
    text = text.replace("{{range $i, $range := .PodCIDRRanges}}{{if $i}}, {{end}}", "").replace("{{$range}}", "10.244.0.0/24")
    text = text.replace("{{range $i, $route := .Routes}}{{if $i}}, {{end}}", "").replace("{{$route}}", "0.0.0.0/0").replace("{{end}}", "")
    bridge = json.loads(text)["plugins"][0]
    assert (bridge["type"], bridge["bridge"], bridge["mtu"], bridge["ipMasq"]) == ("bridge", "cni0", 1450, False)
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.0.0/24"}]]
    assert bridge["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}]


def test_kubelet_knows_its_machine_and_keeps_off_the_hosts_disk_size() -> None:
    one = json.loads(kubelet_drop_in("kubevirt://m1", cgroup_version=1))
    assert one["providerID"] == "kubevirt://m1"
    assert one["failCgroupV1"] is False
    assert not any("%" in value for value in one["evictionHard"].values())
    assert "failCgroupV1" not in json.loads(kubelet_drop_in("kubevirt://m1", cgroup_version=2))


def test_labels_become_one_flag() -> None:
    assert kubelet_extra_arguments({"b": "2", "a": "1"}) == b"KUBELET_EXTRA_ARGS=--node-labels=a=1,b=2\n"


def test_processors_of_the_host_beyond_the_machines_are_not_offered() -> None:
    reserved = json.loads(kubelet_drop_in("kubevirt://m1", cgroup_version=2, surplus_cpus=6))["systemReserved"]
    assert reserved["cpu"] == "6"
    assert "cpu" not in json.loads(kubelet_drop_in("kubevirt://m1", cgroup_version=2, surplus_cpus=-2))["systemReserved"]


def test_containerd_trusts_the_authority_of_the_clouds_registry() -> None:
    files = registry_files("-----BEGIN CERTIFICATE-----")
    host = tomllib.loads(files["/etc/containerd/certs.d/pilvi.dev/hosts.toml"].decode())["host"]["https://pilvi.dev"]
    assert files[host["ca"]] == b"-----BEGIN CERTIFICATE-----"
    config = tomllib.loads(containerd_config("p", systemd_cgroups=True).decode())
    assert config["plugins"]["io.containerd.cri.v1.images"]["registry"]["config_path"] == "/etc/containerd/certs.d"
    assert registry_files("") == {}
