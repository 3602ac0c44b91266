"""The backend for machines under QEMU, with real ones: boot sectors that say a word."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilvi.host.cloud import Cloud
from pilvi.host.leftovers import find_leftovers
from pilvi.host.netns import ensure_netns, list_netns
from pilvi.host.network import Bridge, NamespaceNetwork, delete_netns, ensure_network, list_links
from pilvi.host.qemu.installed import find_uefi, has_qemu
from pilvi.host.qemu.probe import WORD, tiny_initrd
from pilvi.host.qemu.tpm import tpm_unit_name
from pilvi.host.units import Units
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.machines.backend import MachineLeg, MachinePhase, MachineSpec, MachineState, NetworkNotReady
from pilvi.providers.kubevirt.machines.folder import kept_folder, machine_folder
from pilvi.providers.kubevirt.machines.qemu.backend import QemuBackend
from pilvi.providers.kubevirt.machines.qemu.domain import sockets_of
from pilvi.providers.kubevirt.machines.qemu.drives import MachineFiles
from pilvi.providers.kubevirt.machines.qemu.places import read_places
from pilvi.providers.kubevirt.machines.volumes import BootFiles, CloudInitDisk, EmptyDisk, ImageDisk, MachineVolume, VolumeDisk
from pilvi.providers.names import machine_port, machine_unit
from pilvi.providers.sizing import Size
from tests.guests import guest_image
from tests.guests.guest import CMDLINE
from tests.host.test_volumes import mounted
from tests.images.bootsector import SIZE, boot_disk

UID = "6a1f0000-1111-2222-3333-444444444444"
BRIDGE = "sntest"

pytestmark = pytest.mark.skipif(not has_qemu(), reason="needs the Debian package qemu-system-x86")


class Lab:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.units = Units(cloud)
        self.router = cloud.netns("vpc-test")
        self.woken: list[str] = []
        self.start_backend()

    def start_backend(self) -> None:
        self.backend = QemuBackend(self.cloud, self.units, Path("/nowhere"))
        self.backend.subscribe(self.woken.append)
        self.task = asyncio.create_task(self.backend.run())

    async def end_backend(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def spec(self, disk: bytes, *more: MachineVolume, **devices: Any) -> MachineSpec:
        image = self.cloud.home / "base.img"
        if not image.exists():
            image.write_bytes(disk)
        return MachineSpec(
            uid=UID,
            name="web",
            namespace="shop",
            instance={"domain": {"devices": {"disks": [{"name": "root", "disk": {"bus": "virtio"}}], **devices}}},
            size=Size(1, 1, 1, 32 << 20),
            legs=(MachineLeg(self.router, BRIDGE, "02:00:00:00:00:05", IPv4Interface("10.9.0.5/16"), IPv4Address("10.9.0.1")),),
            volumes=(ImageDisk("root", image, "raw", SIZE), *more),
            user=self.cloud.uid_base,
            stop_grace_s=1,
        )

    async def until(self, phase: MachinePhase) -> None:
        await wait_for(lambda: self.backend.state(UID).phase == phase, 30, phase)

    def serial(self) -> str:
        return (machine_folder(self.cloud, UID) / "serial.log").read_text()


@asynccontextmanager
async def lab_at(home: Path) -> AsyncIterator[Lab]:
    """A cloud at that folder with a Vpc and a backend; at the end nothing is left but the folder."""
    cloud_id = "t" + secrets.token_hex(2)
    cloud = Cloud(
        id=cloud_id,
        home=home,
        run=Path(f"/run/pilvi/{cloud_id}"),
        range=IPv4Network("10.249.117.0/24"),
        transit=IPv4Network("10.249.118.0/24"),
        uid_base=1_181_000_000,
        uid_count=100,
    )
    lab = Lab(cloud)
    supervision = asyncio.create_task(lab.units.run())
    await ensure_netns(lab.router)
    await ensure_network(NamespaceNetwork(netns=lab.router, bridges=(Bridge(BRIDGE),)))
    try:
        yield lab
    finally:
        await lab.end_backend()
        supervision.cancel()
        await asyncio.gather(supervision, return_exceptions=True)
        await lab.units.stop_all(0)
        for name in list_netns(cloud.netns_prefix):
            await delete_netns(name)
        shutil.rmtree(cloud.run, ignore_errors=True)
        assert await find_leftovers(cloud) == []


@asynccontextmanager
async def small_lab() -> AsyncIterator[Lab]:
    """A cloud whose home has 24 MiB."""
    folder = Path(tempfile.mkdtemp(prefix="pilvi-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        with mounted(folder, "ext4", 24) as home:
            async with lab_at(home) as lab:
                yield lab
    finally:
        shutil.rmtree(folder)


@pytest_asyncio.fixture
async def lab() -> AsyncIterator[Lab]:
    home = Path(tempfile.mkdtemp(prefix="pilvi-test-", dir="/var/tmp"))
    try:
        async with lab_at(home) as lab:
            yield lab
    finally:
        shutil.rmtree(home)


async def test_a_machine_runs_with_what_it_was_given_and_leaves_nothing(lab: Lab) -> None:
    spec = lab.spec(boot_disk("up"), CloudInitDisk("init", user_data=b"#cloud-config\n"), EmptyDisk("scratch", 1 << 20))
    state = await lab.backend.ensure(spec)
    assert (state.phase, state.first_boot, state.agent) == ("running", "unknown", False)
    assert lab.backend.fidelity in ("Kvm", "Tcg")
    await wait_for(lambda: "up" in lab.serial(), 30, "the guest's word")
    pid = lab.units.state(machine_unit(UID)).pid
    assert (await lab.backend.ensure(spec)).phase == "running"
    assert lab.units.state(machine_unit(UID)).pid == pid
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["Uid"].split()[0] == str(lab.cloud.uid_base)
    (port,) = await list_links(lab.router, machine_port(UID))
    assert (port.master, port.up) == (BRIDGE, True)
    assert (lab.cloud.home / "base.img").read_bytes() == boot_disk("up"), "the shared image is never written"
    await lab.backend.stop(UID, 0)
    assert lab.backend.state(UID).phase == "absent"
    await lab.backend.remove(UID)
    assert await lab.backend.list_uids() == []
    assert await list_links(lab.router, machine_port(UID)) == []
    assert not sockets_of(lab.cloud, UID).folder.exists()


async def test_a_guest_that_powers_off_has_succeeded(lab: Lab) -> None:
    await lab.backend.ensure(lab.spec(boot_disk("bye", power_off=True)))
    await lab.until("succeeded")
    assert UID in lab.woken
    assert lab.units.state(machine_unit(UID)).pid is not None, "QEMU waits until somebody has seen it"
    await lab.backend.stop(UID, 30)
    assert lab.backend.state(UID).phase == "absent"


async def test_what_happens_while_no_engine_is_there_is_seen_by_the_next(lab: Lab) -> None:
    spec = lab.spec(boot_disk("bye", power_off=True))
    await lab.backend.ensure(spec)
    await lab.end_backend()
    await wait_for(lambda: "bye" in lab.serial(), 30, "the guest to end")
    lab.start_backend()
    await lab.until("succeeded")
    assert (await lab.backend.ensure(spec)).phase == "succeeded"


async def test_a_process_that_dies_is_a_crash_and_is_not_started_again(lab: Lab) -> None:
    spec = lab.spec(boot_disk("up"))
    await lab.backend.ensure(spec)
    pid = lab.units.state(machine_unit(UID)).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await wait_for(lambda: "SIGKILL" in lab.backend.state(UID).message, 30, "how it ended")
    assert lab.backend.state(UID).phase == "failed"
    assert (await lab.backend.ensure(spec)).phase == "failed"


async def test_after_a_power_cut_it_runs_on_the_same_disks(lab: Lab) -> None:
    spec = lab.spec(boot_disk("up"))
    await lab.backend.ensure(spec)
    layer = machine_folder(lab.cloud, UID) / "disks" / "root.qcow2"
    before = layer.stat().st_ino
    await lab.units.stop(machine_unit(UID), grace_s=0)  # the record goes, as /run does
    assert (await lab.backend.ensure(spec)).phase == "running"
    assert layer.stat().st_ino == before
    await wait_for(lambda: "up" in lab.serial(), 30, "the guest's word")


async def test_a_deaf_guest_gets_its_grace_and_no_more(lab: Lab) -> None:
    await lab.backend.ensure(lab.spec(boot_disk("up")))
    began = asyncio.get_running_loop().time()
    await lab.backend.stop(UID, 1.5)
    assert asyncio.get_running_loop().time() - began >= 1.5
    assert lab.backend.state(UID).phase == "absent"


async def test_a_subnet_that_is_not_there_yet_is_awaited(lab: Lab) -> None:
    await delete_netns(lab.router)
    with pytest.raises(NetworkNotReady):
        await lab.backend.ensure(lab.spec(boot_disk("up")))
    assert lab.backend.state(UID).phase == "absent"


async def test_a_machine_with_a_kernel_and_no_disk(lab: Lab) -> None:
    """The kernel is a file of the store that only root reaches; the machine's user is handed it."""
    closed = lab.cloud.home / "images"
    closed.mkdir(mode=0o700)
    for name, content in (("kernel", guest_image().kernel.read_bytes()), ("initrd", tiny_initrd())):
        (closed / name).write_bytes(content)
        (closed / name).chmod(0o444)
    spec = replace(lab.spec(b""), volumes=(), kernel=BootFiles(closed / "kernel", closed / "initrd", "console=ttyS0 panic=-1"))
    spec = replace(spec, size=Size(1, 1, 1, 128 << 20))
    state = await lab.backend.ensure(spec)
    assert state.machine_type.startswith("pc-q35-")
    assert (closed / "kernel").stat().st_nlink == 2, "the store sees that it is in use"
    await wait_for(lambda: WORD.decode().strip() in lab.serial(), 90, "the word of the initrd")
    await lab.backend.stop(UID, 0)
    await lab.backend.remove(UID)
    assert (closed / "kernel").stat().st_nlink == 1


async def test_a_guest_finds_its_ignition_configuration(lab: Lab) -> None:
    """Read as the machine's user, out of a folder that only root reaches."""
    guest, config = guest_image(), '{"ignition": {"version": "3.4.0"}, "passwd": {}}'
    found = "/sys/firmware/qemu_fw_cfg/by_name/opt/com.coreos/config/raw"
    seed = CloudInitDisk("init", user_data=f"#!/bin/sh\nmodprobe qemu_fw_cfg; echo found $(cat {found}) it\n".encode())
    spec = lab.spec(b"", disks=[{"name": "init", "disk": {"bus": "virtio"}}])
    spec = replace(spec, volumes=(seed,), kernel=BootFiles(guest.kernel, guest.memory_initrd, CMDLINE), ignition=config)
    await lab.backend.ensure(replace(spec, size=Size(1, 1, 1, 256 << 20)))
    await wait_for(lambda: f"found {config} it" in lab.serial(), 90, "what the guest has found")


@pytest.mark.skipif(shutil.which("swtpm") is None, reason="needs the Debian package swtpm")
async def test_what_firmware_and_tpm_remember_outlives_the_instance(lab: Lab) -> None:
    if find_uefi(secure_boot=False) is None:
        pytest.skip("needs the Debian package ovmf")
    firmware = {"bootloader": {"efi": {"secureBoot": False, "persistent": True}}}
    first = replace(lab.spec(boot_disk("up")), keeper="vm")
    first.instance["domain"] |= {"firmware": firmware}
    first.instance["domain"]["devices"]["tpm"] = {"persistent": True}
    kept = kept_folder(lab.cloud, "vm")
    said: list[str] = []
    for user in (first.user, first.user + 1):
        spec = replace(first, user=user, size=Size(1, 1, 1, 128 << 20))
        await lab.backend.ensure(spec)
        tpm = tpm_unit_name(machine_unit(UID))
        assert lab.units.state(tpm).state == "running"
        await lab.end_backend()
        lab.start_backend()
        assert (await lab.backend.ensure(spec)).phase == "running", "another engine finds both"
        assert (kept / "tpm").stat().st_size > 0
        said.append((machine_folder(lab.cloud, UID) / "tpm.log").read_text())
        await lab.backend.stop(UID, 0)
        await lab.backend.remove(UID)
        assert lab.units.state(tpm).state == "absent"
        assert sorted(path.name for path in kept.iterdir()) == ["tpm", "uefi-variables.fd"]
    assert ["Formatting" in log for log in said] == [True, False], "it is made once"
    assert await lab.backend.list_uids() == []


async def test_disks_processors_and_memory_change_while_it_runs(lab: Lab) -> None:
    def raw(name: str, size_bytes: int) -> VolumeDisk:
        path = lab.cloud.home / name
        with path.open("ab") as file:
            file.truncate(size_bytes)
        return VolumeDisk(name, path, size_bytes)

    def wanted(*volumes: VolumeDisk, sockets: int = 1, memory: int = 32 << 20) -> MachineSpec:
        shown = [{"name": volume.name, "disk": {"bus": "scsi"}} for volume in volumes]
        spec = lab.spec(boot_disk("up"), *volumes)
        domain = {"cpu": {"maxSockets": 4}, "memory": {"maxGuest": "64Mi"}, "devices": {"disks": [{"name": "root"}, *shown]}}
        return dataclasses.replace(spec, instance={"domain": domain}, size=Size(sockets, 1, 1, memory))

    def seen(state: MachineState) -> dict[str, int | None]:
        return {disk.name: disk.size_bytes for disk in state.disks or () if disk.attached}

    assert seen(await lab.backend.ensure(wanted(raw("a", 1 << 20)))) == {"root": SIZE, "a": 1 << 20}
    pid = lab.units.state(machine_unit(UID)).pid
    state = await lab.backend.ensure(wanted(raw("a", 2 << 20), raw("b", 1 << 20), sockets=2))
    assert seen(state) == {"root": SIZE, "a": 2 << 20, "b": 1 << 20}
    assert (state.sockets, state.unchanged, state.look_again_s) == (2, {}, None)
    # The engine goes in between, and the first disk of the start goes: the other one stays where it is.
    await lab.end_backend()
    lab.start_backend()
    state = await lab.backend.ensure(wanted(raw("b", 1 << 20), sockets=2, memory=64 << 20))
    assert seen(state) == {"root": SIZE, "b": 1 << 20}
    opened = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert str(lab.cloud.home / "a") not in opened
    # Nobody in this guest takes memory: it is offered, and said to be missing.
    assert (state.memory_at_start_bytes, state.memory_bytes, state.unchanged) == (32 << 20, 32 << 20, {})
    assert read_places(MachineFiles(machine_folder(lab.cloud, UID)).places).disks["b"] == ("scsi", 1)
    state = await lab.backend.ensure(wanted(VolumeDisk("gone", lab.cloud.home / "gone", 1), raw("b", 1 << 20)))
    assert "No such file" in state.unchanged["disk gone"]
    assert state.look_again_s is not None
    assert lab.units.state(machine_unit(UID)).pid == pid


async def test_a_card_comes_and_goes_while_the_machine_runs(lab: Lab) -> None:
    (first,) = lab.spec(boot_disk("up")).legs
    second = replace(first, name="back", provider="back.shop.ovn", mac="02:00:00:00:00:06", place=1, is_default=False)

    def spec(legs: tuple[MachineLeg, ...], *states: str) -> MachineSpec:
        interfaces = [{"name": name, "state": state} for name, state in zip(("default", "back"), states, strict=False)]
        networks = [{"name": "default", "pod": {}}, {"name": "back", "multus": {"networkName": "back"}}]
        made = lab.spec(boot_disk("up"), interfaces=interfaces)
        return replace(made, legs=legs, instance={**made.instance, "networks": networks[: len(states)]})

    def cards() -> tuple[str, ...] | None:
        return lab.backend.state(UID).cards

    await lab.backend.ensure(spec((first,), "up"))
    assert cards() == ("default",)
    pid = lab.units.state(machine_unit(UID)).pid
    await lab.backend.ensure(spec((first, second), "up", "up"))
    assert cards() == ("back", "default"), lab.backend.state(UID).unchanged
    ports = {machine_port(UID), machine_port(UID, "back.shop.ovn")}
    assert {link.name for link in await list_links(lab.router, machine_port(UID))} == ports
    # Its leg is not to be had for a while: it stays.
    await lab.backend.ensure(spec((first,), "up", "up"))
    assert cards() == ("back", "default")
    await lab.backend.ensure(spec((first, replace(second, is_up=False)), "up", "down"))
    assert lab.backend.state(UID).unchanged == {}
    # The guest of a boot sector answers no request, so the next engine has to go on with it; a reset lets go of it.
    absent = spec((first,), "up", "absent")
    await lab.backend.ensure(absent)
    await lab.end_backend()
    lab.start_backend()
    await lab.backend.ensure(absent)
    await lab.backend.control.reset(UID)

    async def gone() -> bool:
        await lab.backend.ensure(absent)
        return cards() == ("default",)

    for _ in range(20):
        if await gone():
            break
        await asyncio.sleep(0.5)
    assert await gone(), lab.backend.state(UID).unchanged
    assert {link.name for link in await list_links(lab.router, machine_port(UID))} == {machine_port(UID)}
    assert lab.units.state(machine_unit(UID)).pid == pid
    await lab.backend.stop(UID, 0)
    await lab.backend.remove(UID)
    assert await list_links(lab.router, machine_port(UID)) == []
