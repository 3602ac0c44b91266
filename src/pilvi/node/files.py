"""The files that make a node image this machine: who it is, where its resolver is, how containerd and the kubelet run in it. Pure."""

import uuid
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface
from pathlib import PurePosixPath
from typing import Literal

import msgspec

from pilvi.node.cloud_config import parse_user_data
from pilvi.node.containerd import CNI_TEMPLATE, CONFIG, cni_template, containerd_config, registry_files
from pilvi.node.first_boot import render_first_boot
from pilvi.node.kubelet import DROP_IN, EXTRA_ARGUMENTS, kubelet_drop_in, kubelet_extra_arguments

FIRST_BOOT_SCRIPT = PurePosixPath("/var/lib/pilvi/first-boot.sh")


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the virtual machine's objects say.

    `uid` is the VMI's UID. Its link has `address` and `mtu`. `resolver` answers DNS for the machine and its pods. `user_data` is what a
    guest's cloud-init would get; `meta_data` adds to the values of its `{{ ds.meta_data.* }}`, of which `instance_id` and
    `local_hostname` are always there. `registry_authority` (PEM) is the one that the cloud's registry is known by, empty for none.
    """

    name: str
    namespace: str
    uid: str
    address: IPv4Interface
    resolver: IPv4Address
    user_data: bytes
    meta_data: Mapping[str, str] = {}
    mtu: int = 1500
    registry_authority: str = ""

    @property
    def machine_id(self) -> str:
        """32 hex digits, as in /etc/machine-id: the same for the same VMI."""
        return uuid.uuid5(uuid.NAMESPACE_OID, self.uid).hex


class NodeFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the machine's own, at an absolute path inside it."""

    path: PurePosixPath
    content: bytes
    mode: int = 0o644


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the node runs.

    `machine` is the value of its label `pilvi.dev/machine`. `cgroup_version` is the one that it sees, `systemd` whether that is its PID 1.
    `surplus_cpus` and `ignored_errors` (of `kubeadm join`) are what only a sandbox has.
    """

    machine: Literal["sandbox", "qemu"]
    cgroup_version: int
    systemd: bool
    surplus_cpus: int = 0
    ignored_errors: tuple[str, ...] = ()


def node_files(facts: NodeFacts, pause: str, around: Surroundings) -> tuple[tuple[NodeFile, ...], tuple[str, ...]]:
    """The files, and notes on what of the bootstrap data has no effect. `pause` is the reference of the sandbox image of pods.

    Raises UserError, naming the key, when the bootstrap data cannot be carried out.
    """
    meta_data = {"instance_id": f"{facts.name}.{facts.namespace}", "local_hostname": facts.name, **facts.meta_data}
    config = parse_user_data(facts.user_data, meta_data)
    # kubeadm and the kubelet look the node's own name up; without the entry they wait ten seconds for DNS.
    hosts = f"127.0.0.1\tlocalhost\n{facts.address.ip}\t{facts.name}\n"
    drop_in = kubelet_drop_in(
        f"kubevirt://{facts.name}",
        cgroup_version=around.cgroup_version,
        cgroup_driver="systemd" if around.systemd else "cgroupfs",
        surplus_cpus=around.surplus_cpus,
    )
    files = (
        _text("/etc/hostname", f"{facts.name}\n"),
        _text("/etc/hosts", hosts),
        _text("/etc/resolv.conf", f"nameserver {facts.resolver}\n"),
        _text("/etc/machine-id", f"{facts.machine_id}\n"),
        _file(CONFIG, containerd_config(pause, systemd_cgroups=around.systemd)),
        _file(CNI_TEMPLATE, cni_template(facts.mtu)),
        _file(DROP_IN, drop_in),
        _file(EXTRA_ARGUMENTS, kubelet_extra_arguments({"pilvi.dev/machine": around.machine})),
        *(_file(path, content) for path, content in registry_files(facts.registry_authority).items()),
        NodeFile(path=FIRST_BOOT_SCRIPT, content=render_first_boot(config, around.ignored_errors), mode=0o700),
    )
    return files, config.notes


def _text(path: str, content: str) -> NodeFile:
    return _file(path, content.encode())


def _file(path: str, content: bytes) -> NodeFile:
    return NodeFile(path=PurePosixPath(path), content=content)
