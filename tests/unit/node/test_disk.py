"""What makes the disk of a node image a certain virtual machine."""

import io
import tarfile
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import msgspec
import pytest

from pilvi.errors import UserError
from pilvi.node import NodeFacts, NodeImage, node_command_line, node_seed

FACTS = NodeFacts(
    name="m1",
    namespace="default",
    uid="0c1e3f52-1111-4222-8333-000000000001",
    address=IPv4Interface("10.9.0.11/24"),
    resolver=IPv4Address("10.9.0.1"),
    user_data=b"#cloud-config\nruncmd: [kubeadm join]\nntp: {}\n",
    mtu=1400,
)
IMAGE = NodeImage(version="v1.37.2", folder=Path("/image"), pause="pause:1")


def unpack(archive: bytes) -> dict[str, tuple[int, str]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: (member.mode, tar.extractfile(member).read().decode()) for member in tar}  # type: ignore[union-attr]


def test_seed_says_which_machine_it_is() -> None:
    seed = node_seed(FACTS, IMAGE, "02:00:00:00:00:01", IPv4Address("10.9.0.254"))
    files = unpack(seed.archive)
    assert files["etc/hostname"][1] == "m1\n"
    network = files["etc/systemd/network/10-leg.network"][1].splitlines()
    assert {"MACAddress=02:00:00:00:00:01", "Address=10.9.0.11/24", "Gateway=10.9.0.254", "MTUBytes=1400"} <= {*network}
    assert files["var/lib/pilvi/first-boot.sh"][0] == 0o700
    assert '"cgroupDriver": "systemd"' in files["etc/kubernetes/kubelet.conf.d/10-machine.conf"][1]
    assert "SystemdCgroup = true" in files["etc/containerd/config.toml"][1]
    assert files["etc/default/kubelet"][1] == "KUBELET_EXTRA_ARGS=--node-labels=pilvi.dev/machine=qemu\n"
    words = node_command_line(FACTS).split()
    assert {"systemd.hostname=m1", f"systemd.machine_id={FACTS.machine_id}"} <= {*words}
    assert len(seed.notes) == 1, "ntp has no effect, and that is said"
    assert len(seed.archive) % 512 == 0, "a disk has whole sectors"


def test_seed_is_the_same_for_the_same_machine() -> None:
    first, second = (node_seed(FACTS, IMAGE, "02:00:00:00:00:01", IPv4Address("10.9.0.254")) for _ in range(2))
    assert first == second


def test_user_data_that_cannot_be_carried_out_is_refused() -> None:
    with pytest.raises(UserError, match="apt"):
        node_seed(
            msgspec.structs.replace(FACTS, user_data=b"#cloud-config\napt: {}\n"), IMAGE, "02:00:00:00:00:01", IPv4Address("10.9.0.254")
        )
