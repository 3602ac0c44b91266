"""The guest that other tests run: every way to boot it, with QEMU by hand.

What it does for scenarios is seen in them; the long ones here are for whoever changes the guest.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import socket
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pycdlib
import pytest

from tests.guests import Guest, guest_image
from tests.guests.guest import CMDLINE, READY

BOOT_S = 60.0  # ten times what it takes on two idle cores
ANSWER_S = 15.0
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGuestGuestGuestGuestGuestGuestGuestGuestGu test@pilvi"
PROMPT = re.compile(r"\w+@[\w-]+:\S*[#$] ")


class Wire:
    """A QEMU character device on a socket: what came, what to send, what to wait for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen = ""
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, path: Path) -> Wire:
        return cls(*await asyncio.open_unix_connection(path))

    async def expect(self, pattern: str | re.Pattern[str], timeout_s: float = ANSWER_S) -> str:
        """Wait until the pattern matches, and return the match; what stands before and in it is forgotten."""
        async with asyncio.timeout(timeout_s):
            while (found := re.search(pattern, self.seen)) is None:
                data = await self._reader.read(65536)
                assert data, f"ended before {pattern} with {self.seen[-2000:]}"
                self.seen += data.decode(errors="replace").replace("\r", "")
        self.seen = self.seen[found.end() :]
        return found.group()

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):  # QEMU may have ended with something of ours unread
            await self._writer.wait_closed()

    def send(self, text: str) -> None:
        self._writer.write(text.encode())

    async def shell(self, command: str) -> str:
        """What a command prints in the shell on the console."""
        # The marks are not in the echo of what was typed, which the shell breaks at the terminal's width.
        self.send(f"echo begin-of-''it; {command}; echo end-of-''it\n")
        found = await self.expect(re.compile(r"(?s)begin-of-it\n.*?end-of-it\n"))
        await self.expect(PROMPT)
        return found.removeprefix("begin-of-it\n").removesuffix("end-of-it\n")

    async def ask(self, command: str, **arguments: Any) -> Any:
        """QMP, and the agent's protocol, which looks alike."""
        self.send(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        answer = json.loads(await self.expect(r'(?m)^\{"(return|error)".*\n'))
        assert "return" in answer, answer
        return answer["return"]


class Machine:
    """A running QEMU with console, monitor and agent."""

    def __init__(self, process: asyncio.subprocess.Process, console: Wire, monitor: Wire, agent: Wire) -> None:
        self.process, self.console, self.monitor, self.agent = process, console, monitor, agent

    async def log_in(self) -> None:
        await self.console.expect(READY, BOOT_S)
        await self.console.expect(PROMPT, BOOT_S)

    async def power_off(self) -> None:
        """Press the power button; the guest ends by itself."""
        await self.monitor.ask("system_powerdown")
        async with asyncio.timeout(ANSWER_S):
            assert await self.process.wait() == 0
        await self.console.expect("guest stops")


@asynccontextmanager
async def machine(folder: Path, *words: str, memory_mib: int = 256) -> AsyncIterator[Machine]:
    sockets = {name: folder / name for name in ("console", "monitor", "agent")}
    argv = ["nice", "-n", "10", "qemu-system-x86_64", "-machine", "pc-q35-7.2,smm=on", "-accel", "tcg,thread=multi", "-cpu", "max"]
    argv += ["-m", str(memory_mib), "-nodefaults", "-no-user-config", "-display", "none"]
    for name, path in sockets.items():
        argv += ["-chardev", f"socket,id={name},path={path},server=on,wait=off"]
    argv += ["-serial", "chardev:console", "-qmp", "chardev:monitor", "-device", "virtio-serial-pci"]
    argv += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0", "-device", "virtio-rng-pci", *words]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_end, process)
        async with asyncio.timeout(ANSWER_S):
            while not all(path.exists() for path in sockets.values()):
                assert process.returncode is None, (await process.communicate())[0].decode()
                await asyncio.sleep(0.01)
        wires = []
        for path in sockets.values():
            wires.append(await Wire.open(path))
            stack.push_async_callback(wires[-1].close)
        made = Machine(process, *wires)
        await made.monitor.ask("qmp_capabilities")
        yield made


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def overlay(folder: Path, guest: Guest) -> str:
    """A disk of its own on the guest's."""
    path = folder / "disk.qcow2"
    process = await asyncio.create_subprocess_exec("qemu-img", "create", "-q", "-f", "qcow2", "-b", guest.qcow2, "-F", "qcow2", path)
    assert await process.wait() == 0
    return str(path)


def write_iso(path: Path, label: str, files: Mapping[str, str]) -> str:
    """A seed of at most eight folders deep, by Rock Ridge and Joliet names."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=4, vol_ident=label, joliet=3, rock_ridge="1.09")
    made: set[str] = set()
    for number, (name, text) in enumerate(files.items()):
        data, place = text.encode(), ""
        for parent in Path(name).parts[:-1]:
            place += f"/{parent}"
            if place not in made:
                iso.add_directory(place.upper(), rr_name=parent, joliet_path=place)
                made.add(place)
        where = f"{place.upper()}/F{number}.;1"
        iso.add_fp(io.BytesIO(data), len(data), where, rr_name=Path(name).name, joliet_path=f"/{name}")
    iso.write(str(path))
    iso.close()
    return str(path)


def disk(path: str, name: str, fmt: str, device: str = "virtio-blk-pci", rest: str = "") -> list[str]:
    return ["-drive", f"file={path},if=none,id={name},format={fmt}{rest}", "-device", f"{device},drive={name}"]


def network(port: int, device: str = "virtio-net-pci") -> list[str]:
    """A link with QEMU's own DHCP server; what comes to the port of this machine goes to the guest's SSH server."""
    return ["-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", f"{device},netdev=net"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


CLOUD_CONFIG = f"""#cloud-config
hostname: named
password: "secret"
ssh_authorized_keys:
  - {KEY}
package_update: true
write_files:
  - path: /etc/made/by seed
    permissions: "0600"
    content: |
      first 'line'
        second
  - content: "two words"
    path: /etc/made/again
runcmd:
  - echo "shell $((1 + 1))" > /run/one
  - [touch, "/run/a name"]
  - |
    for number in 1 2 3; do
      echo $number
    done > /run/many
"""
FILES = "cat '/etc/made/by seed' /etc/made/again /run/one /run/many; ls /run/a*e; stat -c %a '/etc/made/by seed'"
FILES_SAY = "first 'line'\n  second\ntwo wordsshell 2\n1\n2\n3\n/run/a name\n600\n"


async def test_direct_kernel_and_cloud_config(guest: Guest, tmp_path: Path) -> None:
    seed = write_iso(
        tmp_path / "seed.iso", "cidata", {"meta-data": '{"instance-id": "i-1", "local-hostname": "m"}', "user-data": CLOUD_CONFIG}
    )
    port = free_port()
    words = ["-kernel", str(guest.kernel), "-initrd", str(guest.initrd), "-append", CMDLINE, *network(port)]
    words += [*disk(await overlay(tmp_path, guest), "root", "qcow2"), *disk(seed, "seed", "raw", rest=",readonly=on")]
    async with machine(tmp_path, *words) as it:
        await it.console.expect("guest user data: package_update has no effect here", BOOT_S)
        await it.log_in()
        assert await it.console.shell("hostname") == "named\n"
        assert await it.console.shell(FILES) == FILES_SAY
        assert await it.console.shell("cat /home/debian/.ssh/authorized_keys") == f"{KEY}\n"
        assert "10.0.2.15/24" in await it.console.shell("ip addr show eth0")
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert (await reader.readline()).startswith(b"SSH-2.0-dropbear")
            writer.close()
            await writer.wait_closed()
        login = (
            "dropbearkey -t ed25519 -f /tmp/key 2>&1 | /etc/init.d/authorize; dbclient -y -i /tmp/key debian@127.0.0.1 whoami 2>/dev/null"
        )
        assert await it.console.shell(login) == "debian\n"
        assert (
            await it.console.shell("su -c 'echo no' debian < /dev/null; awk -F: '{ print substr($2, 1, 3) }' /etc/shadow")
            == "no\n$6$\n$6$\n"
        )
        await it.power_off()


@pytest.mark.soak
async def test_bios_keeps_what_was_written_and_knows_its_config_drive(guest: Guest, tmp_path: Path) -> None:
    latest = "openstack/latest"
    script = "#!/bin/sh\necho ran as $(whoami)\n"
    files = {
        f"{latest}/meta_data.json": json.dumps({"uuid": "u-1", "hostname": "drive", "public_keys": {"0": KEY}}),
        f"{latest}/user_data": script,
    }
    seed = write_iso(tmp_path / "seed.iso", "config-2", files)
    words = [*disk(await overlay(tmp_path, guest), "root", "qcow2"), *disk(seed, "seed", "raw", rest=",readonly=on")]
    words += ["-device", "pcie-root-port,id=free1,chassis=1", "-device", "pcie-root-port,id=free2,chassis=2", "-netdev", "user,id=net"]
    async with machine(tmp_path, *words) as it:
        await it.console.expect("guest seed config-2 instance u-1 is new", BOOT_S)
        await it.console.expect("ran as root", BOOT_S)
        await it.log_in()
        assert await it.console.shell("hostname; cat /root/.ssh/authorized_keys") == f"drive\n{KEY}\n"

        extra = tmp_path / "extra.raw"
        extra.write_bytes(b"")
        os.truncate(extra, 16 << 20)
        await it.monitor.ask("blockdev-add", driver="file", filename=str(extra), **{"node-name": "extra"})
        await it.monitor.ask("device_add", driver="virtio-blk-pci", drive="extra", id="extra", bus="free1")
        name = (await it.console.expect(r"guest disk \w+ added")).split()[2]
        assert await it.console.shell(f"mkfs.ext4 -q /dev/{name} && mount /dev/{name} /mnt && echo kept > /mnt/file && umount /mnt") == ""
        await it.monitor.ask("device_del", id="extra")
        await it.monitor.expect(r'"DEVICE_DELETED".*"device": "extra"')
        assert b"kept\n" in extra.read_bytes()

        await it.monitor.ask("device_add", driver="virtio-net-pci", netdev="net", id="nic", bus="free2")
        await it.console.expect("guest eth0 10.0.2.15/24")

        await it.console.shell("echo written > /root/file; sync")
        await it.monitor.ask("system_reset")
        await it.console.expect("guest seed config-2 instance u-1 is known", BOOT_S)
        await it.log_in()
        assert await it.console.shell("hostname; cat /root/file") == "drive\nwritten\n"
        await it.power_off()


@pytest.mark.soak
async def test_uefi_with_secure_boot_and_agent(guest: Guest, tmp_path: Path) -> None:
    variables = shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.ms.fd", tmp_path)
    words = ["-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"]
    words += ["-drive", f"if=pflash,unit=1,format=raw,file={variables}", "-global", "driver=cfi.pflash01,property=secure,value=on"]
    words += disk(await overlay(tmp_path, guest), "root", "qcow2")
    async with machine(
        tmp_path, *words, memory_mib=512
    ) as it:  # with 256 the kernel that GRUB has verified does not fit beside the firmware
        await it.log_in()
        secure = "modprobe efivarfs; mount -t efivarfs e /mnt; tail -c 1 /mnt/SecureBoot-* | od -An -tu1"
        assert (await it.console.shell(secure)).split() == ["1"]

        assert await it.agent.ask("guest-ping") == {}
        assert (await it.agent.ask("guest-get-osinfo"))["id"] == "pilvi-guest"
        assert (await it.agent.ask("guest-get-host-name"))["host-name"] == "guest"
        assert {link["name"] for link in await it.agent.ask("guest-network-get-interfaces")} == {"lo"}
        assert {user["user"] for user in await it.agent.ask("guest-get-users")} == {"root"}
        assert "/" in {found["mountpoint"] for found in await it.agent.ask("guest-get-fsinfo")}
        assert await it.agent.ask("guest-fsfreeze-freeze") == 1
        assert await it.agent.ask("guest-fsfreeze-thaw") == 1
        await it.agent.ask("guest-set-user-password", username="debian", password=base64.b64encode(b"word").decode(), crypted=False)
        assert await it.console.shell("grep -c '^debian:[$]6[$]' /etc/shadow") == "1\n"
        await it.agent.ask("guest-ssh-add-authorized-keys", username="debian", keys=[KEY])
        assert (await it.console.shell("cat /home/debian/.ssh/authorized_keys")).strip() == KEY

        it.agent.send('{"execute": "guest-shutdown"}\n')  # is not answered
        await it.console.expect("guest stops")
        async with asyncio.timeout(ANSWER_S):
            assert await it.process.wait() == 0


async def test_all_in_memory(guest: Guest, tmp_path: Path) -> None:
    words = ["-kernel", str(guest.kernel), "-initrd", str(guest.memory_initrd), "-append", CMDLINE, *network(free_port())]
    async with machine(tmp_path, *words) as it:
        await it.log_in()
        assert (await it.console.shell("ls /sys/class/block | grep -v loop; ls /dev/disk* 2>/dev/null")) == ""
        assert await it.agent.ask("guest-ping") == {}
        await it.power_off()


NETWORK_CONFIG = """version: 2
ethernets:
  eth0:
    addresses: [10.0.2.77/24]
    gateway4: 10.0.2.2
    nameservers:
      addresses: [10.0.2.3]
"""


@pytest.mark.soak
async def test_generic_kernel_knows_old_devices(tmp_path: Path) -> None:
    guest = guest_image("generic")
    files = {"meta-data": "instance-id: i-1\nlocal-hostname: old\n", "network-config": NETWORK_CONFIG}
    seed = write_iso(tmp_path / "seed.iso", "cidata", files)
    words = disk(await overlay(tmp_path, guest), "root", "qcow2", "ide-hd,bus=ide.0")
    words += [*disk(seed, "seed", "raw", "ide-cd,bus=ide.1", ",readonly=on"), *network(free_port(), "e1000e"), "-device", "i6300esb"]
    async with machine(tmp_path, *words) as it:
        await it.log_in()
        assert (
            await it.console.shell("hostname; cat /etc/resolv.conf; ls -1 /dev/watchdog /dev/sda2")
            == "old\nnameserver 10.0.2.3\n/dev/sda2\n/dev/watchdog\n"
        )
        assert "10.0.2.77/24" in await it.console.shell("ip addr show eth0")
        await it.power_off()


def test_container_layouts_hold_what_they_say(guest: Guest) -> None:
    for layout, files in (
        (guest.container_disk, {"disk/disk.qcow2": guest.qcow2}),
        (guest.kernel_container, {"boot/vmlinuz": guest.kernel, "boot/initrd": guest.memory_initrd}),
    ):
        manifest = _blob(layout, json.loads((layout / "index.json").read_bytes())["manifests"][0])
        described = json.loads(manifest)
        config = json.loads(_blob(layout, described["config"]))
        layer = gzip.decompress(_blob(layout, described["layers"][0]))
        assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            found = {member.name: member for member in tar if member.isfile()}
            assert found.keys() == files.keys()
            for name, source in files.items():
                content = tar.extractfile(found[name])
                assert content is not None
                assert content.read() == source.read_bytes()
                assert found[name].uid == 107


def _blob(layout: Path, descriptor: Mapping[str, Any]) -> bytes:
    algorithm, _, digest = descriptor["digest"].partition(":")
    data = (layout / "blobs" / algorithm / digest).read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest
    assert len(data) == descriptor["size"]
    return data
