"""A worker as a sandbox: what it is given, and what it keeps."""

import os
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import msgspec
import pytest

from pilvi.errors import UserError
from pilvi.node import NodeImage, SandboxFacts, find_first_boot_exit, node_machine, prepare_node_machine

USER_DATA = (
    b"## template: jinja\n#cloud-config\nruncmd: ['echo {{ ds.meta_data.local_hostname }} {{ ds.meta_data.instance_id }}']\nntp: {}\n"
)


@pytest.fixture
def image(tmp_path: Path) -> NodeImage:
    made = NodeImage(version="v1.37.2", folder=tmp_path / "image", pause="pause:1")
    made.root.mkdir(parents=True)
    made.containerd.mkdir()
    (made.containerd / "meta.db").write_bytes(b"db")
    return made


@pytest.fixture
def facts(tmp_path: Path) -> SandboxFacts:
    return SandboxFacts(
        name="m1",
        namespace="default",
        uid="0c1e3f52-1111-4222-8333-000000000001",
        unit="m-1",
        state=tmp_path / "m1",
        netns="pv-test-m1",
        memory_bytes=2 << 30,
        cpus=2,
        address=IPv4Interface("10.9.0.11/24"),
        resolver=IPv4Address("10.9.0.1"),
        user_data=USER_DATA,
    )


def test_layer_holds_name_resolver_and_first_boot(facts: SandboxFacts, image: NodeImage) -> None:
    machine = node_machine(facts, image)
    files = {str(file.path): file for file in machine.sandbox.layer_files}
    assert b"10.9.0.11\tm1\n" in files["/etc/hosts"].content
    assert files["/etc/resolv.conf"].content == b"nameserver 10.9.0.1\n"
    assert files["/var/lib/pilvi/first-boot.sh"].mode == 0o700
    assert b"kubevirt://m1" in files["/etc/kubernetes/kubelet.conf.d/10-machine.conf"].content
    assert len(machine.notes) == 1


def test_host_wide_settings_are_private(facts: SandboxFacts, image: NodeImage) -> None:
    private = {str(file.path) for file in node_machine(facts, image).sandbox.private_files}
    assert {"/proc/meminfo", "/proc/cpuinfo", "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/panic"} <= private


def test_machines_have_ids_of_their_own_that_stay(facts: SandboxFacts, image: NodeImage) -> None:
    def machine_id(of: SandboxFacts) -> bytes:
        return next(file.content for file in node_machine(of, image).sandbox.layer_files if file.path.name == "machine-id")

    assert machine_id(facts) == machine_id(msgspec.structs.replace(facts, name="renamed"))
    assert machine_id(facts) != machine_id(msgspec.structs.replace(facts, uid="other"))


def test_prepared_machine_has_its_own_containerd_state_and_keeps_it(facts: SandboxFacts, image: NodeImage) -> None:
    machine = node_machine(facts, image)
    prepare_node_machine(machine)
    assert (machine.containerd / "meta.db").read_bytes() == b"db"
    assert machine.kubelet.is_dir()
    (machine.containerd / "meta.db").write_bytes(b"used")
    prepare_node_machine(machine)
    assert (machine.containerd / "meta.db").read_bytes() == b"used"
    assert find_first_boot_exit(machine) is None
    (machine.sandbox.layer / "var/lib/pilvi/first-boot.done").write_text("1\n")
    assert find_first_boot_exit(machine) == 1


def test_bootstrap_data_that_cannot_be_carried_out_is_refused_before_anything_is_made(facts: SandboxFacts, image: NodeImage) -> None:
    with pytest.raises(UserError, match="apt"):
        node_machine(msgspec.structs.replace(facts, user_data=b"#cloud-config\napt: {}\n"), image)
    assert not facts.state.exists()


@pytest.mark.parametrize("trick", ["empty", "text", "pipe", "link", "folder"])
def test_nothing_that_a_guest_writes_holds_up_its_own_end(trick: str, facts: SandboxFacts, image: NodeImage, tmp_path: Path) -> None:
    machine = node_machine(facts, image)
    done = machine.sandbox.layer / "var/lib/pilvi/first-boot.done"
    done.parent.mkdir(parents=True)
    (tmp_path / "of-the-host").write_text("0\n")
    match trick:
        case "empty":
            done.write_text("")
        case "text":
            done.write_text("none of your business")
        case "pipe":
            os.mkfifo(done)
        case "link":
            done.symlink_to(tmp_path / "of-the-host")
        case "folder":
            done.mkdir()
    assert find_first_boot_exit(machine) is None
