"""Machines as real QEMU processes, without KVM: life cycle, descriptors, hot-plug, a kernel that boots.

Most of it needs no guest: a BIOS that finds nothing to boot is running. Where a kernel has to boot, it is Debian's and the first process is
the probe's, which powers off.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pilvi.errors import MachineRefused, MachineUnreachable, TimedOut
from pilvi.host.cloud import Cloud
from pilvi.host.netns import ensure_netns, in_netns
from pilvi.host.network import Bridge, NamespaceNetwork, Tap, ensure_network, ensure_tap
from pilvi.host.qemu.accelerator import find_kernel, probe_kvm, try_boot
from pilvi.host.qemu.agent import Agent
from pilvi.host.qemu.drives import node_name
from pilvi.host.qemu.hotplug import offer_memory, plug_drive, plug_nic, plug_sockets, resize_drive, unplug_drive
from pilvi.host.qemu.installed import find_qemu, find_uefi
from pilvi.host.qemu.monitor import Monitor
from pilvi.host.qemu.present import list_devices, look
from pilvi.host.qemu.probe import WORD, tiny_initrd
from pilvi.host.qemu.spec import Cpu, DirectKernel, Drive, Layer, Memory, Nic, QemuSpec, Sockets, Timers, Uefi, Watchdog
from pilvi.host.qemu.status import Event, GuestStatus
from pilvi.host.qemu.tpm import tpm_unit
from pilvi.host.qemu.unit import qemu_unit
from pilvi.host.units import OpenTap, Units
from pilvi.lib.deadline import wait_for
from pilvi.lib.run import run
from tests.qmp import following

pytestmark = pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs the Debian package qemu-system-x86")
MIB = 1 << 20


@pytest.fixture(scope="session")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Linux kernel: the host's own, or Debian's package, unpacked."""
    found = find_kernel()
    if found is not None:
        copy = tmp_path_factory.mktemp("kernel") / "vmlinuz"
        shutil.copyfile(found, copy)
        return copy
    folder = tmp_path_factory.mktemp("kernel")
    shown = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True, check=False).stdout
    names = [line.split()[-1] for line in shown.splitlines() if "Depends: linux-image-" in line]
    if not names:
        pytest.skip("needs a kernel to boot: /boot has none, and apt knows no linux-image-cloud-amd64")
    subprocess.run(["apt-get", "download", names[0]], cwd=folder, check=True, capture_output=True)
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    kernel = find_kernel(folder / "boot")
    assert kernel is not None
    return kernel


@pytest.fixture
async def place(cloud: Cloud) -> dict[str, Any]:
    """What a machine needs around it, and the fields that say so."""
    user = cloud.uid_base + 1
    sockets = Sockets(folder=cloud.run / "machines" / "1")
    sockets.folder.mkdir(parents=True)
    os.chown(sockets.folder, user, user)
    sockets.folder.chmod(0o700)
    await ensure_netns(cloud.netns("m-1"))
    await ensure_netns(cloud.netns("vpc"))
    await ensure_network(NamespaceNetwork(netns=cloud.netns("vpc"), bridges=(Bridge("br0"),)))
    for name in ("m1", "m2"):
        await ensure_tap(Tap(netns=cloud.netns("vpc"), name=name, master="br0", mtu=1500))
    qemu = await find_qemu()
    assert qemu is not None
    return {
        "name": "m-1",
        "title": "ns_vm",
        "uuid": "3f0a6f6e-2f40-4f3c-9e5c-6f6a1d1f1a11",
        "user": user,
        "netns": cloud.netns("m-1"),
        "sockets": sockets,
        "log": cloud.home / "qemu.log",
        "serial_log": cloud.home / "serial.log",
        "memory": Memory(size_bytes=256 * MIB),
        "machine": qemu.machine,
    }


def raw_disk(folder: Path, name: str, size_bytes: int = MIB) -> Path:
    path = folder / name
    with open(path, "wb") as file:
        file.truncate(size_bytes)
    path.chmod(0o600)  # root's: the machine's user could not open it
    return path


@asynccontextmanager
async def running(cloud: Cloud, spec: QemuSpec) -> AsyncIterator[tuple[Units, Monitor, list[Event]]]:
    units = Units(cloud)
    await units.ensure(qemu_unit(spec))
    try:
        async with following(spec.title, spec.sockets.monitor) as (monitor, events):
            yield units, monitor, events
    finally:
        await units.stop(spec.name)


def everything(cloud: Cloud, place: dict[str, Any]) -> QemuSpec:
    """A machine that has one of each."""
    home = cloud.home
    base, overlay = raw_disk(home, "base.raw"), home / "overlay.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(overlay)]
    subprocess.run(create, check=True)
    overlay.chmod(0o600)

    def drive(name: str, **fields: Any) -> Drive:
        return Drive(name=name, layers=(Layer(path=raw_disk(home, name)),), **fields)

    drives = (
        Drive(name="root", layers=(Layer(path=overlay, format="qcow2"), Layer(path=base)), serial="root-1", iothread=True),
        Drive(name="again", layers=(Layer(path=base),), bus="scsi", read_only=True, serial="a" * 36),
        drive("cached", cache="writeback", on_error="enospc", block_sizes=(512, 4096)),
        drive("through", cache="writethrough", on_error="report", shareable=True),
        drive("native", io="native", discard=False),
        drive("sata", bus="sata"),
        drive("far", bus="sata", port=7),
        drive("cd", bus="sata", kind="cdrom"),
        Drive(name="empty", layers=(), bus="sata", kind="cdrom"),
        drive("scsi-cd", bus="scsi", kind="cdrom"),
        drive("usb", bus="usb"),
        drive("usb-cd", bus="usb", kind="cdrom"),
    )
    tap = OpenTap(name="m1", netns=cloud.netns("vpc"))
    return QemuSpec(
        **{**place, "memory": Memory(size_bytes=256 * MIB, max_bytes=512 * MIB, shared=True)},
        cpu=Cpu(cores=2, max_sockets=4, features={"vmx": False}),
        drives=drives,
        nics=(Nic(name="default", tap=tap, mac="02:00:00:00:00:01", mtu=1400),),
        rng=True,
        watchdog=Watchdog(action="poweroff"),
        panic="pci",
        tablets=("usb", "virtio", "virtio"),
        sound="ich9",
        video="virtio",
        hyperv={"relaxed": True, "spinlocks": 8191},
        hide_hypervisor=True,
        smbios={"system": {"manufacturer": "A, B"}, "chassis": {"asset": "7"}},
        timers=Timers(hpet=False, kvm=False, rtc="catchup", pit="discard"),
        clock_offset_s=3600,
        reboot="exit",
    )


async def test_a_machine_that_has_one_of_each(cloud: Cloud, place: dict[str, Any]) -> None:
    spec = everything(cloud, place)
    async with running(cloud, spec) as (units, monitor, _):
        assert await monitor.query_status() is GuestStatus.RUNNING
        blocks = {block["qdev"]: block for block in await monitor.execute("query-block")}
        assert {f"disk-{drive.name}" for drive in spec.drives} == {name.split("/")[3] if name[0] == "/" else name for name in blocks}
        named = {node["node-name"]: node for node in await monitor.execute("query-named-block-nodes", {"flat": True})}
        # A chain of nodes is named as JSON, the others by their file.
        files = [file for node in named.values() for file in re.findall(r'"filename": "([^"]*)"', node["file"]) or [node["file"]]]
        assert [file for file in files if not file.startswith("/dev/fdset/")] == []
        (top,) = [node for node in named.values() if node["drv"] == "qcow2"]
        assert '"backing": {"driver": "raw"' in top["file"]
        uuid = await monitor.execute("query-uuid")
        assert uuid["UUID"] == spec.uuid
        assert await monitor.is_agent_there() is False
        reader, writer = await asyncio.open_unix_connection(spec.sockets.screen)
        assert await asyncio.wait_for(reader.readexactly(4), 5) == b"RFB "
        writer.close()
        assert units.state("m-1").log_tail == ""


async def test_it_has_no_rights(cloud: Cloud, place: dict[str, Any]) -> None:
    spec = everything(cloud, place)
    async with running(cloud, spec) as (units, monitor, _):
        await monitor.query_status()
        pid = units.state("m-1").pid
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert status["Uid"].split() == [str(spec.user)] * 4
        assert int(status["CapEff"], 16) == 0
        assert status["NoNewPrivs"].strip() == "1"
        assert status["Seccomp"].strip() == "2"
        assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(f"/run/netns/{spec.netns}").st_ino
        assert units.cgroups.procs(cloud.cgroup("m-1")) == {pid}
        for path in (spec.sockets.monitor, spec.sockets.serial, spec.sockets.screen, spec.sockets.agent):
            assert path.is_socket()
        # What it would open itself it cannot.
        with pytest.raises(MachineRefused, match="Permission denied"):
            await monitor.execute("blockdev-add", {"driver": "file", "node-name": "x", "filename": str(cloud.home / "base.raw")})


async def test_another_engine_takes_over(cloud: Cloud, place: dict[str, Any]) -> None:
    spec = QemuSpec(**place)
    units = Units(cloud)
    pid = (await units.ensure(qemu_unit(spec))).pid
    try:
        async with following(spec.title, spec.sockets.monitor) as (first, _):
            await first.stop()
        assert (await Units(cloud).ensure(qemu_unit(spec))).pid == pid
        async with following(spec.title, spec.sockets.monitor) as (second, events):
            assert await second.query_status() is GuestStatus.PAUSED
            await second.cont()
            await wait_for(lambda: "RESUME" in [event.name for event in events], 5, "the event")
            assert await second.query_status() is GuestStatus.RUNNING
    finally:
        await units.stop("m-1")


async def test_a_stopped_qemu_holds_nobody_up(cloud: Cloud, place: dict[str, Any]) -> None:
    spec = QemuSpec(**place)
    async with running(cloud, spec) as (units, monitor, _):
        await monitor.query_status()
        pid = units.state("m-1").pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TimedOut):
            await monitor.execute("query-status", timeout_s=0.3)
        os.kill(pid, signal.SIGCONT)
        assert await monitor.query_status() is GuestStatus.RUNNING


async def test_quit_and_kill_leave_nothing(cloud: Cloud, place: dict[str, Any]) -> None:
    spec = QemuSpec(**place)
    async with running(cloud, spec) as (units, monitor, events):
        await monitor.query_status()
        await monitor.quit()
        await wait_for(lambda: units.state("m-1").state == "exited", 10, "the end")
        assert units.state("m-1").exit == "exit code 0"
        assert events[-1].name in ("DISCONNECTED", "SHUTDOWN")
        with pytest.raises(MachineUnreachable):
            await monitor.execute("query-status", timeout_s=0.3)
        await units.stop("m-1")
    async with running(cloud, spec) as (units, monitor, _):
        await monitor.query_status()
        pid = units.state("m-1").pid
        await units.stop("m-1", 0)
        assert not Path(f"/proc/{pid}").exists()


async def test_a_lock_keeps_a_second_machine_from_a_disk(cloud: Cloud, place: dict[str, Any]) -> None:
    disk = Drive(name="d", layers=(Layer(path=raw_disk(cloud.home, "d")),))
    spec = QemuSpec(**place, drives=(disk,))
    async with running(cloud, spec) as (_, monitor, _):
        await monitor.query_status()
        done = await run(["qemu-io", "-f", "raw", "-c", "write 0 512", str(cloud.home / "d")], timeout_s=10, check=False)
        assert 'Failed to get "write" lock' in done.stderr + done.stdout


async def test_disks_come_and_go(cloud: Cloud, place: dict[str, Any]) -> None:
    base, overlay = raw_disk(cloud.home, "base.raw"), cloud.home / "overlay.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(overlay)], check=True)
    drive = Drive(name="extra", layers=(Layer(path=overlay, format="qcow2"), Layer(path=base)), bus="scsi", serial="extra-1")
    # A virtio disk goes only when its guest lets it: here there is none, so it comes, and goes with its machine.
    virtio = Drive(name="v", layers=(Layer(path=raw_disk(cloud.home, "v")),), iothread=True)
    async with running(cloud, QemuSpec(**place)) as (units, monitor, _):
        pid = units.state("m-1").pid

        def opened() -> set[str]:
            return {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}

        await plug_drive(monitor, virtio, 3)
        assert "disk-v" in await list_devices(monitor)
        with pytest.raises(TimedOut, match="let go of disk-v"):
            await monitor.remove_device("disk-v", timeout_s=0.3)
        for _ in range(2):
            await plug_drive(monitor, drive, 3)
            await plug_drive(monitor, drive, 3)
            assert {str(base), str(overlay)} <= opened()
            assert "disk-extra" in await list_devices(monitor)
            await unplug_drive(monitor, "extra")
            await unplug_drive(monitor, "extra")
            assert not {str(base), str(overlay)} & opened()
            assert "disk-extra" not in await list_devices(monitor)


async def test_a_disk_that_cannot_be_plugged_in_leaves_nothing(cloud: Cloud, place: dict[str, Any]) -> None:
    path = raw_disk(cloud.home, "no.qcow2")
    wrong = Drive(name="wrong", layers=(Layer(path=path, format="qcow2"),), bus="scsi")
    async with running(cloud, QemuSpec(**place)) as (_, monitor, _):
        sets = await monitor.execute("query-fdsets")
        with pytest.raises(MachineRefused, match="blockdev-add"):
            await plug_drive(monitor, wrong, 3)
        half = Drive(name="half", layers=(Layer(path=path, format="qcow2"), Layer(path=cloud.home / "absent")), bus="scsi")
        with pytest.raises(FileNotFoundError):
            await plug_drive(monitor, half, 3)
        assert await monitor.execute("query-fdsets") == sets
        # Half of it is there, as after an engine that was killed in between.
        good = Drive(name="good", layers=(Layer(path=path),), bus="scsi")
        await plug_drive(monitor, good, 4)
        await monitor.remove_device("disk-good")
        await plug_drive(monitor, good, 4)


async def test_cards_processors_and_memory_come(cloud: Cloud, place: dict[str, Any]) -> None:
    place["memory"] = Memory(size_bytes=256 * MIB, max_bytes=1024 * MIB)
    spec = QemuSpec(**place, cpu=Cpu(max_sockets=4))
    second = Nic(name="second", tap=OpenTap(name="m2", netns=cloud.netns("vpc")), mac="02:00:00:00:00:02")
    async with running(cloud, spec) as (_, monitor, _):
        await plug_nic(monitor, second, 2)
        await plug_nic(monitor, second, 2)
        assert "nic-second" in await list_devices(monitor)
        with pytest.raises(OSError, match="No such device"):
            await plug_nic(monitor, Nic(name="n", tap=OpenTap(name="nope", netns=cloud.netns("vpc")), mac="02:00:00:00:00:03"), 3)
        for sockets in (3, 3, 2):
            await plug_sockets(monitor, sockets)
            assert len(await monitor.execute("query-cpus-fast")) == 3
        for size in (512, 512, 256):
            await offer_memory(monitor, size * MIB)
            found = await look(monitor)
            assert (found.memory_bytes, found.more_bytes, found.offered_bytes) == (256 * MIB, 0, size * MIB), "no guest takes it"
        with pytest.raises(MachineRefused):
            await offer_memory(monitor, 2048 * MIB)


async def test_a_disk_of_the_start_goes_and_one_that_has_grown_is_seen(cloud: Cloud, place: dict[str, Any]) -> None:
    path = raw_disk(cloud.home, "d")
    first = Drive(name="first", layers=(Layer(path=path),), bus="scsi")
    async with running(cloud, QemuSpec(**place, drives=(first,))) as (units, monitor, _):
        seen = await look(monitor)
        node = node_name("first")
        os.truncate(path, seen.nodes[node] + MIB)
        await resize_drive(monitor, "first", seen.nodes[node] + MIB)
        assert (await look(monitor)).nodes[node] == seen.nodes[node] + MIB
        await unplug_drive(monitor, "first")
        pid = units.state("m-1").pid
        assert str(path) not in {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        left = await look(monitor)
        assert "disk-first" not in left.devices
        assert node not in left.nodes


@pytest.mark.parametrize("firmware", ["bios", "uefi", "secure"])
async def test_a_kernel_boots_and_its_end_is_told(cloud: Cloud, place: dict[str, Any], kernel: Path, firmware: str) -> None:
    if firmware != "bios":
        files = find_uefi(secure_boot=firmware == "secure")
        if files is None:
            pytest.skip("needs the Debian package ovmf")
        shutil.copyfile(files.variables, cloud.home / "variables.fd")
        place["firmware"] = Uefi(code=files.code, variables=cloud.home / "variables.fd", secure_boot=firmware == "secure")
    initrd = cloud.home / "initrd"
    initrd.write_bytes(tiny_initrd())
    start = DirectKernel(kernel=kernel, initrd=initrd, arguments="console=ttyS0 panic=-1")
    spec = QemuSpec(**place, kernel=start)
    async with running(cloud, spec) as (units, monitor, events):

        async def is_over() -> bool:
            return (await monitor.query_status()).is_over

        await wait_for(is_over, 90, "the guest to power off")
        assert await monitor.query_status() is GuestStatus.SHUTDOWN
        assert units.state("m-1").state == "running"
        assert WORD.strip() in spec.serial_log.read_bytes()
        assert {"guest": True, "reason": "guest-shutdown"} in [event.data for event in events if event.name == "SHUTDOWN"]
        with pytest.raises(TimedOut):
            await Agent("vm", spec.sockets.agent).ping(timeout_s=0.3)


@pytest.mark.skipif(shutil.which("swtpm") is None, reason="needs the Debian package swtpm")
async def test_a_tpm_that_keeps_its_secrets(cloud: Cloud, place: dict[str, Any]) -> None:
    spec = QemuSpec(**place, tpm=place["sockets"].tpm)
    state = cloud.home / "tpm"
    state.touch(mode=0o600)
    os.chown(state, spec.user, spec.user)
    units = Units(cloud)
    unit = tpm_unit(spec, state)
    kept: list[bytes] = []
    for _ in range(2):
        await units.stop(unit.name)
        await units.ensure(unit)
        await units.wait_ready(unit.name, 10)
        async with running(cloud, spec) as (_, monitor, _):
            assert await monitor.query_status() is GuestStatus.RUNNING
            (tpm,) = await monitor.execute("query-tpm")
            assert (tpm["model"], tpm["options"]["type"]) == ("tpm-crb", "emulator")
        await wait_for(lambda: units.state(unit.name).state == "exited", 10, "the end of the TPM with its machine")
        kept.append(state.read_bytes())
    assert kept[0] == kept[1] != b""


async def test_packets_of_a_guest_arrive_in_its_network(cloud: Cloud, place: dict[str, Any]) -> None:
    """A card that is booted from asks for an address, with no guest at all."""
    netns = cloud.netns("vpc")
    nic = Nic(name="default", tap=OpenTap(name="m1", netns=netns), mac="02:00:00:00:00:01", boot_index=1)

    def received() -> int:
        with in_netns(netns):
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        return int(next(line.split()[2] for line in lines if line.strip().startswith("m1:")))

    async with running(cloud, QemuSpec(**place, nics=(nic,))):
        await wait_for(lambda: received() > 0, 60, "a first packet")


async def test_a_machine_that_starts_paused(cloud: Cloud, place: dict[str, Any]) -> None:
    async with running(cloud, QemuSpec(**place, paused=True)) as (_, monitor, _):
        assert await monitor.query_status() is GuestStatus.PRELAUNCH
        await monitor.cont()
        assert await monitor.query_status() is GuestStatus.RUNNING


async def test_the_trial_tells_what_boots(tmp_path: Path, kernel: Path) -> None:
    """What is tried is the same for every accelerator; the one that works everywhere shows that the trial itself does."""
    good = await try_boot(kernel, accelerator="tcg", user=65534, group=None, timeout_s=60)
    assert good.works, good.reason
    no_kernel = tmp_path / "none"
    no_kernel.write_bytes(b"no kernel at all")
    bad = await try_boot(no_kernel, accelerator="tcg", user=65534, group=None, timeout_s=30)
    assert not bad.works
    late = await try_boot(kernel, accelerator="tcg", user=65534, group=None, timeout_s=0.3)
    assert not late.works
    assert "0.3 s" in late.reason
    left = [path for path in Path("/tmp").glob("pilvi-probe-*") if path.is_dir()]  # noqa: S108
    assert left == []


async def test_kvm_is_tried_once(tmp_path: Path, kernel: Path) -> None:
    """Whatever the answer is on this host: it comes in time, says why, and is not looked for again."""
    qemu = await find_qemu()
    assert qemu is not None
    kept = tmp_path / "kvm.json"
    first = await probe_kvm(qemu, kernel, kept, user=0, timeout_s=15)
    assert first.reason
    if not Path("/dev/kvm").exists():
        assert not first.works
        return
    assert kept.exists()
    assert await probe_kvm(qemu, Path("/absent"), kept, user=0) == first
    other = await probe_kvm(qemu._replace(version="0.0"), None, kept, user=0)
    assert other.reason.startswith("not tried")
