"""PID 1 of a node, with shell scripts in the place of containerd, kubelet and kubeadm."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from pilvi.errors import UserError
from pilvi.host.cloud import Cloud
from pilvi.host.netns import ensure_netns
from pilvi.host.sandbox import Bind, SandboxFile, SandboxSpec, prepare_sandbox, sandbox_unit
from pilvi.host.units import Units
from pilvi.kit import get_binary
from tests.host.test_sandbox import children, has, inside, until

# Answers on containerd's socket, and says when it is told to end.
CONTAINERD = """#!/usr/bin/python3
import os, signal, socket, sys
def end(*_):
    open("/var/order", "a").write("containerd ended\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
os.makedirs("/run/containerd", exist_ok=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind("/run/containerd/containerd.sock")
listener.listen()
open("/var/order", "a").write("containerd started\\n")
while True:
    listener.accept()[0].close()
"""
KUBELET = """#!/bin/sh
echo "kubelet $*" >> /var/kubelet-arguments
trap 'echo "kubelet ended" >> /var/order; exit 0' TERM
[ -e /var/broken ] && exit 1
echo "kubelet started" >> /var/order
while :; do sleep 0.05; done
"""
KUBEADM = """#!/bin/sh
echo "kubeadm $*" >> /var/order
"""
JOIN = """#!/bin/sh
echo "first boot" >> /var/order
mkdir -p /var/lib/kubelet && touch /var/lib/kubelet/config.yaml
echo 'KUBELET_KUBEADM_ARGS="--a=1 --b=2"' > /var/lib/kubelet/kubeadm-flags.env
systemctl daemon-reload && systemctl start kubelet
"""


@pytest.fixture(scope="module")
def enter() -> Path:
    try:
        return get_binary("sandbox-enter")
    except UserError as e:
        pytest.skip(f"the kit is not built: {e}")


class Node:
    """A sandbox with the real init and false services."""

    def __init__(self, cloud: Cloud, enter: Path, first_boot: str) -> None:
        self.units = Units(cloud)
        self.enter = enter
        self.cloud = cloud
        programs = {"/usr/bin/containerd": CONTAINERD, "/usr/bin/kubelet": KUBELET, "/usr/bin/kubeadm": KUBEADM}
        self.spec = SandboxSpec(
            name="node",
            root=Path("/"),
            state=cloud.home / "machine",
            hostname="node",
            init=("/usr/lib/pilvi/node-init", "-grace=5s"),
            netns=cloud.netns("m-node"),
            memory_bytes=512 << 20,
            cpus=1,
            binds=(
                Bind(source=get_binary("node-init"), target=Path("/usr/lib/pilvi/node-init"), read_only=True),
                Bind(source=get_binary("node-init"), target=Path("/usr/local/bin/systemctl"), read_only=True),
            ),
            layer_files=(
                *(SandboxFile(path=Path(path), content=text.encode(), mode=0o755) for path, text in programs.items()),
                SandboxFile(path=Path("/var/lib/pilvi/first-boot.sh"), content=first_boot.encode(), mode=0o700),
                SandboxFile(path=Path("/etc/default/kubelet"), content=b"KUBELET_EXTRA_ARGS=--c=3\n"),
            ),
        )

    async def start(self) -> None:
        await ensure_netns(self.spec.netns)
        prepare_sandbox(self.spec)
        await self.units.ensure(sandbox_unit(self.cloud, self.spec, self.enter))

    async def stop(self, grace_s: float | None = None) -> None:
        await self.units.stop(self.spec.name, grace_s=grace_s)

    @property
    def init(self) -> int:
        pid = self.units.state(self.spec.name).pid
        assert pid is not None
        return children(pid)[0]

    def order(self) -> list[str]:
        return inside(self.spec, "var/order").splitlines()

    async def saw(self, line: str, times: int = 1) -> None:
        await until(f"line {line!r} ({times} times)", lambda: self.order().count(line) == times)

    async def run(self, *argv: str) -> tuple[int, str, str]:
        """Run a command inside the machine."""
        command = ("nsenter", "-t", str(self.init), "-m", "-p", "-u", "-i", "-n", *argv)
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=20, check=False)
        return done.returncode, done.stdout, done.stderr


@pytest_asyncio.fixture
async def make_node(cloud: Cloud, enter: Path) -> AsyncIterator[Callable[[str], Node]]:
    made: list[Node] = []

    def make(first_boot: str) -> Node:
        made.append(Node(cloud, enter, first_boot))
        return made[-1]

    yield make
    for node in made:
        await node.stop(grace_s=0)


async def test_first_boot_once_then_kubelet_and_an_orderly_end(make_node: Callable[[str], Node]) -> None:
    node = make_node(JOIN)
    await node.start()
    await node.saw("kubelet started")
    await until("end of first boot", lambda: inside(node.spec, "var/lib/pilvi/first-boot.done") == "0\n")
    await until("removal of the script", lambda: not has(node.spec, "var/lib/pilvi/first-boot.sh"))  # it holds a token
    arguments = inside(node.spec, "var/kubelet-arguments").split()
    assert arguments[-3:] == ["--a=1", "--b=2", "--c=3"]
    assert "--config=/var/lib/kubelet/config.yaml" in arguments
    await node.stop()
    assert node.order() == ["containerd started", "first boot", "kubelet started", "kubelet ended", "containerd ended"]

    await node.start()
    await node.saw("kubelet started", times=2)
    assert node.order().count("first boot") == 1


async def test_systemctl_does_what_kubeadm_asks_and_refuses_the_rest(make_node: Callable[[str], Node]) -> None:
    node = make_node(JOIN)
    await node.start()
    await node.saw("kubelet started")
    assert await node.run("systemctl", "is-active", "kubelet") == (0, "active\n", "")
    assert (await node.run("systemctl", "enable", "--now", "kubelet.service"))[0] == 0
    code, output, _ = await node.run("systemctl", "status", "kubelet")
    assert (code, "Active: active" in output) == (0, True)
    assert (await node.run("systemctl", "stop", "kubelet"))[0] == 0
    assert "kubelet ended" in node.order()
    assert await node.run("systemctl", "is-active", "kubelet") == (3, "inactive\n", "")
    assert (await node.run("systemctl", "restart", "kubelet"))[0] == 0
    await node.saw("kubelet started", times=2)

    for arguments, named in (
        (("start", "nginx"), "nginx"),
        (("mask", "kubelet"), "mask"),
        (("start", "--root=/x", "kubelet"), "--root=/x"),
    ):
        code, _, errors = await node.run("systemctl", *arguments)
        assert code == 1
        assert named in errors
    code, _, errors = await node.run("systemctl", "status", "firewalld.service")
    assert (code, "could not be found" in errors) == (4, True)


async def test_first_boot_cut_short_is_reset_and_repeated(make_node: Callable[[str], Node]) -> None:
    node = make_node('#!/bin/sh\necho "first boot" >> /var/order\n[ -e /var/go ] || sleep 1000\n')
    await node.start()
    await node.saw("first boot")
    await node.stop(grace_s=0)
    (node.spec.layer / "var/go").write_text("")
    await node.start()
    await node.saw("first boot", times=2)
    assert [line for line in node.order() if not line.startswith("containerd")] == ["first boot", "kubeadm reset --force", "first boot"]


async def test_failed_first_boot_says_why_and_is_not_repeated(make_node: Callable[[str], Node]) -> None:
    node = make_node('#!/bin/sh\necho "first boot" >> /var/order\necho "no way to the API server" >&2\nexit 3\n')
    await node.start()
    await until("end of first boot", lambda: inside(node.spec, "var/lib/pilvi/first-boot.done") == "3\n")
    await until("message", lambda: "no way to the API server" in node.units.state(node.spec.name).log_tail)
    await node.stop()
    await node.start()
    await node.saw("containerd started", times=2)
    await node.stop()
    assert node.order().count("first boot") == 1


async def test_dead_kubelet_is_started_again_and_orphans_are_reaped(make_node: Callable[[str], Node]) -> None:
    node = make_node(JOIN)
    await node.start()
    await node.saw("kubelet started")
    (kubelet,) = [pid for pid in children(node.init) if b"/usr/bin/kubelet" in read_bytes(f"/proc/{pid}/cmdline")]
    os.kill(kubelet, 9)
    await node.saw("kubelet started", times=2)
    assert (await node.run("sh", "-c", "(sleep 0.2 & sleep 0.1 &) ; true"))[0] == 0
    await until("reaping", lambda: not any(is_zombie(pid) for pid in children(node.init)))


def read_bytes(path: str) -> bytes:
    return Path(path).read_bytes()


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
