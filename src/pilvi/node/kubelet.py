"""What a machine tells its kubelet beside the configuration that kubeadm writes: a drop-in, never an edit."""

from typing import Literal

import msgspec

DROP_IN = "/etc/kubernetes/kubelet.conf.d/10-machine.conf"
EXTRA_ARGUMENTS = "/etc/default/kubelet"

# containerd, kubelet and init of an idle node take about 150 MiB.
SYSTEM_MEMORY_BYTES = 192 * 1024**2


def kubelet_drop_in(
    provider_id: str, *, cgroup_version: int, cgroup_driver: Literal["cgroupfs", "systemd"] = "cgroupfs", surplus_cpus: int = 0
) -> bytes:
    """The KubeletConfiguration of one machine, in JSON, for the kubelet's `--config-dir`.

    `provider_id` is Cluster API's name of the machine (`kubevirt://NAME`); `cgroup_version` is what the machine sees, 1 or 2,
    `cgroup_driver` who arranges its control groups: the kubelet itself where no systemd runs.
    `surplus_cpus` are processors of the host beyond the machine's own: the kubelet counts the host's, and must not offer these to pods.
    """
    reserved = {"memory": str(SYSTEM_MEMORY_BYTES)}
    if surplus_cpus > 0:
        reserved["cpu"] = str(surplus_cpus)
    configuration = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "providerID": provider_id,
        "cgroupDriver": cgroup_driver,
        "failSwapOn": False,
        "resolvConf": "/etc/resolv.conf",
        "systemReserved": reserved,
        # Absolute: the file system belongs to the host, and shares of it would evict pods as soon as the host's disk is 85 % full.
        "evictionHard": {"memory.available": "64Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi", "nodefs.inodesFree": "10000"},
        "imageGCHighThresholdPercent": 100,
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 3,
        "serializeImagePulls": False,
    }
    if cgroup_version == 1:
        configuration["failCgroupV1"] = False
    return msgspec.json.format(msgspec.json.encode(configuration), indent=2) + b"\n"


def kubelet_extra_arguments(labels: dict[str, str]) -> bytes:
    """The environment file by which a node's owner gives the kubelet flags that its configuration has no field for."""
    pairs = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return f"KUBELET_EXTRA_ARGS=--node-labels={pairs}\n".encode()
