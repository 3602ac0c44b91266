"""From a machine to QEMU's words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilvi.errors import Bug, UserError
from pilvi.host import codec
from pilvi.host.qemu.argv import argv
from pilvi.host.qemu.drives import find_drive, node_name
from pilvi.host.qemu.ports import DISK_PORTS, NIC_PORTS
from pilvi.host.qemu.spec import Bios, Cpu, DirectKernel, Drive, Layer, Memory, QemuSpec, Timers, Uefi, Watchdog
from pilvi.host.qemu.unit import overhead_bytes, qemu_unit
from pilvi.host.units import FIRST_DESCRIPTOR, OpenFile, OpenTap, SocketProbe
from tests.unit.host.qemu.machines import MIB, Told, disk, machine, nic


def test_a_machine_that_asks_for_nothing() -> None:
    told = Told(machine())
    assert told.words[0] == "qemu-system-x86_64"
    assert {"-nodefaults", "-no-user-config"} <= set(told.words)
    assert "-S" not in told.words
    assert told.value("-display") == "none"
    assert told.value("-sandbox") == "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
    assert told.options("-action") == {"shutdown": "pause", "panic": "pause", "reboot": "reset"}
    assert told.options("-machine")["type"] == "pc-q35-7.2"
    assert told.value("-accel") == "tcg,thread=multi,tb-size=32"
    assert told.value("-cpu") == "max"
    assert told.value("-uuid") == "3f0a6f6e-2f40-4f3c-9e5c-6f6a1d1f1a11"
    assert told.device("VGA")["bus"] == "pcie.0"
    assert told.value("-vnc") == "unix:/run/m/vnc.sock"
    assert [found["name"] for found in told.devices("virtserialport")] == ["org.qemu.guest_agent.0"]


def test_processors_that_were_plugged_in_are_devices() -> None:
    told = Told(machine(cpu=Cpu(sockets=1, plugged_sockets=2, threads=2, max_sockets=4)))
    found = told.devices("max-x86_64-cpu")
    assert [device["id"] for device in found] == ["cpu-1-0-0", "cpu-1-0-1", "cpu-2-0-0", "cpu-2-0-1"]
    assert found[3] == {"driver": "max-x86_64-cpu", "id": "cpu-2-0-1", "socket-id": 2, "core-id": 0, "thread-id": 1}


def test_nothing_is_opened_by_its_path() -> None:
    spec = machine(
        drives=(disk(), disk("cd", bus="sata", kind="cdrom")),
        nics=(nic(),),
        firmware=Uefi(code=Path("/usr/code.fd"), variables=Path("/home/vars.fd")),
        kernel=DirectKernel(kernel=Path("/boot/k"), initrd=Path("/boot/i"), arguments="quiet"),
        firmware_config={"opt/one": Path("/home/config")},
        rng=True,
    )
    words = " ".join(argv(spec).argv)
    opened = {str(found.path) for found in argv(spec).descriptors if isinstance(found, OpenFile)}
    assert opened == {"/disks/root", "/disks/cd", "/usr/code.fd", "/home/vars.fd", "/boot/k", "/boot/i", "/home/config", "/home/serial.log"}
    for path in opened:
        assert path not in words
    paths = set(re.findall(r"[=:\" ](/[^\",]*)", words))
    assert {path for path in paths if not path.startswith(("/dev/fdset/", "/proc/self/fd/", "/run/m/"))} == set()


@pytest.mark.parametrize(
    ("fields", "option", "expected"),
    [
        ({"accelerator": "kvm"}, "-accel", "kvm"),
        ({"accelerator": "kvm"}, "-cpu", "host"),
        ({"cpu": Cpu(model="Skylake-Client", features={"vmx": True, "hle": False})}, "-cpu", "Skylake-Client,vmx=on,hle=off"),
        ({"hyperv": {"relaxed": True, "spinlocks": 8191}, "hide_hypervisor": True}, "-cpu", "max,hv-relaxed=on,hv-spinlocks=8191,kvm=off"),
        ({"timers": Timers(kvm=False, hyperv=True)}, "-cpu", "max,kvmclock=off,hv-time=on"),
        (
            {"cpu": Cpu(sockets=2, cores=3, threads=2, max_sockets=8)},
            "-smp",
            "cpus=12,maxcpus=48,sockets=8,cores=3,threads=2",
        ),
        ({"cpu": Cpu(plugged_sockets=2, max_sockets=4)}, "-smp", "cpus=1,maxcpus=4,sockets=4,cores=1,threads=1"),
        ({"accelerator": "kvm"}, "-m", f"size={256 * MIB}b"),
        ({}, "-m", f"size={256 * MIB + 8192}b"),
        (
            {"memory": Memory(size_bytes=256 * MIB, max_bytes=1024 * MIB), "accelerator": "kvm"},
            "-m",
            f"size={256 * MIB}b,maxmem={1024 * MIB}b",
        ),
        ({}, "-rtc", "base=utc,clock=host"),
        ({"clock_offset_s": 5}, "-rtc", "base=localtime,clock=host"),
        ({"timers": Timers(rtc="catchup")}, "-rtc", "base=utc,clock=host,driftfix=slew"),
        ({"timers": Timers(pit="discard"), "accelerator": "kvm"}, "-global", "kvm-pit.lost_tick_policy=discard"),
        ({"title": "a,b"}, "-name", "guest=a,,b,debug-threads=on"),
        ({"smbios": {"system": {"manufacturer": "A, B", "serial": "7"}}}, "-smbios", "type=1,manufacturer=A,, B,serial=7"),
        ({"incoming": True}, "-incoming", "defer"),
        ({"sound": "ac97"}, "-audiodev", "none,id=sound"),
        ({"kernel": DirectKernel(kernel=Path("/k"), arguments="a=b c,d")}, "-append", "a=b c,d"),
    ],
)
def test_a_word_for_each_wish(fields: dict[str, Any], option: str, expected: str) -> None:
    assert Told(machine(**fields)).value(option) == expected


def test_files_that_the_guest_finds_in_its_firmwares_configuration() -> None:
    told = Told(machine(firmware_config={"opt/a,b": Path("/x,y"), "opt/c": Path("/z")}))
    numbers = [FIRST_DESCRIPTOR + told.descriptors.index(OpenFile(path=Path(path))) for path in ("/x,y", "/z")]
    assert told.values("-fw_cfg") == [f"name={name},file=/proc/self/fd/{n}" for name, n in zip(("opt/a,,b", "opt/c"), numbers, strict=True)]
    assert Told(machine()).values("-fw_cfg") == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"acpi": False}, {"acpi": "off"}),
        ({"timers": Timers(hpet=False)}, {"hpet": "off"}),
        ({"firmware": Bios(serial=True)}, {"graphics": "off"}),
        ({"firmware": Uefi(code=Path("/c"), variables=Path("/v"))}, {"pflash0": "uefi-code", "pflash1": "uefi-variables"}),
        ({"firmware": Uefi(code=Path("/c"), variables=Path("/v"), secure_boot=True)}, {"smm": "on"}),
    ],
)
def test_properties_of_the_machine(fields: dict[str, Any], expected: dict[str, str]) -> None:
    said, silent = Told(machine(**fields)).options("-machine"), Told(machine()).options("-machine")
    assert expected.items() <= said.items()
    assert not expected.items() <= silent.items()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"rng": True}, {"driver": "virtio-rng-pci", "rng": "rng"}),
        ({"watchdog": Watchdog()}, {"driver": "i6300esb"}),
        ({"panic": "isa"}, {"driver": "pvpanic"}),
        ({"panic": "pci"}, {"driver": "pvpanic-pci", "bus": "pcie.0"}),
        ({"tablets": ("usb",)}, {"driver": "usb-tablet", "bus": "usb.0"}),
        ({"tablets": ("usb",)}, {"driver": "qemu-xhci", "id": "usb"}),
        ({"tablets": ("virtio", "virtio")}, {"driver": "virtio-tablet-pci", "id": "tablet1", "addr": "8.1"}),
        ({"video": "virtio"}, {"driver": "virtio-vga"}),
        ({"video": "bochs"}, {"driver": "bochs-display"}),
        ({"video": "cirrus"}, {"driver": "cirrus-vga"}),
        ({"video": "ramfb"}, {"driver": "ramfb"}),
        ({"sound": "ich9"}, {"driver": "ich9-intel-hda", "addr": "1b"}),
        ({"sound": "ac97"}, {"driver": "AC97", "audiodev": "sound"}),
        ({"tpm": Path("/run/m/tpm.sock")}, {"driver": "tpm-crb", "tpmdev": "tpm"}),
    ],
)
def test_a_device_for_each_wish(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    def has(spec: QemuSpec) -> bool:
        return any(expected.items() <= found.items() for found in Told(spec).objects("-device"))

    assert has(machine(**fields))
    assert not has(machine())


@pytest.mark.parametrize(
    ("field", "driver"),
    [("serial", "isa-serial"), ("agent", "virtserialport"), ("balloon", "virtio-balloon-pci"), ("screen", "VGA")],
)
def test_what_is_there_unless_it_is_not_wanted(field: str, driver: str) -> None:
    assert Told(machine()).devices(driver)
    assert not Told(machine(**{field: False})).devices(driver)


def test_the_serial_console_is_kept_also_while_nobody_listens() -> None:
    told = Told(machine())
    (serial,) = [value for value in told.values("-chardev") if "id=serial" in value]
    options = dict(part.partition("=")[::2] for part in serial.split(",")[1:])
    assert {"path": "/run/m/serial.sock", "server": "on", "wait": "off", "logappend": "on"}.items() <= options.items()
    assert told.file(options["logfile"]) == OpenFile(path=Path("/home/serial.log"), append=True)


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (Memory(size_bytes=MIB), {"qom-type": "memory-backend-ram"}),
        (Memory(size_bytes=MIB, shared=True), {"qom-type": "memory-backend-memfd", "share": True}),
        (Memory(size_bytes=MIB, hugepage_bytes=2 * MIB), {"qom-type": "memory-backend-memfd", "hugetlb": True, "hugetlbsize": 2 * MIB}),
    ],
)
def test_where_memory_comes_from(memory: Memory, expected: dict[str, Any]) -> None:
    (found,) = Told(machine(memory=memory, accelerator="kvm")).objects("-object")
    assert {**expected, "id": "ram", "size": MIB}.items() <= found.items()


def test_an_overlay_believes_nothing_that_an_image_says() -> None:
    layers = (Layer(path=Path("/top"), format="qcow2"), Layer(path=Path("/middle"), format="qcow2"), Layer(path=Path("/base")))
    told = Told(machine(drives=(disk(layers=layers),)))
    base, middle, top = told.objects("-blockdev")
    assert [node["driver"] for node in (top, middle, base)] == ["qcow2", "qcow2", "raw"]
    assert (top["backing"], middle["backing"]) == (middle["node-name"], base["node-name"])
    assert "backing" not in base
    assert told.device("virtio-blk-pci")["drive"] == top["node-name"]
    for node, path, writable in ((top, "/top", True), (middle, "/middle", False), (base, "/base", False)):
        assert told.file(node["file"]["filename"]) == OpenFile(path=Path(path), writable=writable)
        assert node["read-only"] is node["file"]["read-only"] is not writable
    assert (top["discard"], top["detect-zeroes"]) == ("unmap", "unmap")
    assert "discard" not in base


def test_a_lonely_image_has_no_backing_whatever_it_says() -> None:
    (node,) = Told(machine(drives=(disk(layers=(Layer(path=Path("/d"), format="qcow2"),)),))).objects("-blockdev")
    assert node["backing"] is None


def test_names_of_nodes_are_short_and_lead_back() -> None:
    long = "a" * 63
    spec = machine(drives=(disk(), disk(long)))
    names = [node["node-name"] for node in Told(spec).objects("-blockdev")]
    assert max(map(len, names)) <= 31
    assert [drive.name if (drive := find_drive(spec, name)) else None for name in names] == ["root", long]
    assert find_drive(spec, node_name("other")) is None


@pytest.mark.parametrize(
    ("fields", "driver", "expected"),
    [
        ({}, "virtio-blk-pci", {"bus": "disk0", "write-cache": "on", "werror": "stop", "rerror": "stop"}),
        ({"port": 5}, "virtio-blk-pci", {"bus": "disk5"}),
        ({"cache": "writethrough"}, "virtio-blk-pci", {"write-cache": "off"}),
        ({"on_error": "enospc"}, "virtio-blk-pci", {"werror": "enospc", "rerror": "report"}),
        ({"on_error": "report"}, "virtio-blk-pci", {"werror": "report", "rerror": "report"}),
        ({"serial": "abc", "shareable": True}, "virtio-blk-pci", {"serial": "abc", "share-rw": True}),
        ({"block_sizes": (512, 4096)}, "virtio-blk-pci", {"logical_block_size": 512, "physical_block_size": 4096}),
        ({"iothread": True}, "virtio-blk-pci", {"iothread": "io-root"}),
        ({"bus": "scsi"}, "scsi-hd", {"bus": "scsi.0", "scsi-id": 0, "lun": 0}),
        ({"bus": "scsi", "kind": "cdrom"}, "scsi-cd", {"bus": "scsi.0"}),
        ({"bus": "scsi", "kind": "lun", "layers": (Layer(path=Path("/dev/sdx"), device=True),)}, "scsi-block", {"bus": "scsi.0"}),
        ({"bus": "sata"}, "ide-hd", {"bus": "ide.0"}),
        ({"bus": "sata", "kind": "cdrom"}, "ide-cd", {"bus": "ide.0"}),
        ({"bus": "sata", "port": 13}, "ide-hd", {"bus": "sata2.1"}),
        ({"bus": "usb"}, "usb-storage", {"bus": "usb.0"}),
        ({"bus": "usb", "kind": "cdrom"}, "scsi-cd", {"bus": "bot-root.0"}),
    ],
)
def test_drives_as_the_guest_sees_them(fields: dict[str, Any], driver: str, expected: dict[str, Any]) -> None:
    told = Told(machine(drives=(disk(**fields),)))
    found = told.device(driver)
    assert {**expected, "id": "disk-root", "drive": node_name("root")}.items() <= found.items()
    for bus in ("sata2", "usb"):
        if found["bus"].startswith(bus):
            assert any(controller.get("id") == bus for controller in told.objects("-device"))


@pytest.mark.parametrize(
    ("fields", "node"),
    [
        ({}, {"cache": {"direct": True, "no-flush": False}, "aio": "threads"}),
        ({"cache": "writeback"}, {"cache": {"direct": False, "no-flush": False}}),
        ({"cache": "writethrough"}, {"cache": {"direct": False, "no-flush": False}}),
        ({"io": "native"}, {"aio": "native"}),
        ({"layers": (Layer(path=Path("/dev/loop1"), device=True),)}, {"driver": "host_device"}),
        ({"read_only": True}, {"read-only": True}),
    ],
)
def test_how_files_are_read_and_written(fields: dict[str, Any], node: dict[str, Any]) -> None:
    (found,) = Told(machine(drives=(disk(**fields),))).objects("-blockdev")
    assert node.items() <= found["file"].items()


@pytest.mark.parametrize("fields", [{"layers": ()}, {"tray_open": True}])
def test_an_empty_cdrom(fields: dict[str, Any]) -> None:
    told = Told(machine(drives=(disk(bus="sata", kind="cdrom", **fields),)))
    assert set(told.device("ide-cd")) == {"driver", "id", "bus", "bootindex"}
    assert told.objects("-blockdev") == []
    assert [found for found in told.descriptors if found != OpenFile(path=Path("/home/serial.log"), append=True)] == []


@pytest.mark.parametrize(
    ("drives", "words"),
    [
        ((disk(serial="x" * 21),), "longer than the 20 characters"),
        ((disk(bus="scsi", serial="x" * 37),), "longer than the 36 characters"),
        ((disk(kind="cdrom"),), "cdrom cannot be on bus virtio"),
        ((disk(bus="sata", read_only=True),), "no read-only disks"),
        ((disk(bus="scsi", kind="lun"),), "a lun is a block device"),
        ((disk(io="native", cache="writeback"),), "needs cache none"),
        ((disk(bus="scsi", iothread=True),), "thread of their own"),
        (tuple(disk(f"d{number}") for number in range(DISK_PORTS + 1)), f"at most {DISK_PORTS} disks on bus virtio"),
    ],
)
def test_what_no_machine_can_be(drives: tuple[Drive, ...], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        argv(machine(drives=drives))
    assert caught.value.hint


def test_more_cards_than_ports() -> None:
    argv(machine(nics=tuple(nic(f"n{number}") for number in range(NIC_PORTS))))
    with pytest.raises(UserError, match="network cards"):
        argv(machine(nics=tuple(nic(f"n{number}") for number in range(NIC_PORTS + 1))))


@pytest.mark.parametrize(
    "drives",
    [
        (disk(), disk()),
        (disk("a", port=1), disk("b", port=1)),
        (disk(port=DISK_PORTS),),
        (disk(layers=(Layer(path=Path("/a")), Layer(path=Path("/b")))),),
    ],
)
def test_mistakes_of_the_caller(drives: tuple[Drive, ...]) -> None:
    with pytest.raises(Bug):
        argv(machine(drives=drives))


def boot_indices(**fields: Any) -> dict[str, int]:
    return {found["id"]: found["bootindex"] for found in Told(machine(**fields)).objects("-device") if "bootindex" in found}


def test_drives_are_tried_in_their_order_unless_one_is_said() -> None:
    drives = (disk("a"), disk("b", bus="scsi"), disk("c", bus="sata", kind="cdrom"))
    assert boot_indices(drives=drives) == {"disk-a": 1, "disk-b": 2, "disk-c": 3}
    assert boot_indices(drives=(drives[0], disk("b", boot_index=1))) == {"disk-b": 1}
    assert boot_indices(drives=drives, nics=(nic(boot_index=1),)) == {"nic-default": 1}
    assert boot_indices(drives=drives, kernel=DirectKernel(kernel=Path("/k"))) == {}


def test_cards() -> None:
    told = Told(machine(nics=(nic(mtu=1400), nic("b", model="e1000e", port=3, boot_index=1), nic("c", vhost=True))))
    numbers = [int(found["fd"]) for found in told.objects("-netdev")]
    assert [told.descriptors[number - 10] for number in numbers] == [
        OpenTap(name=f"t{name}", netns="vpc") for name in ("default", "b", "c")
    ]
    first, third = told.devices("virtio-net-pci")
    assert {"bus": "nic0", "host_mtu": 1400, "romfile": "", "mac": "02:00:00:00:00:01"}.items() <= first.items()
    assert told.device("e1000e") == {
        "driver": "e1000e",
        "id": "nic-b",
        "netdev": "net-b",
        "mac": "02:00:00:00:00:01",
        "bus": "nic3",
        "bootindex": 1,
    }
    assert third["bus"] == "nic1"
    vhost = told.objects("-netdev")[2]
    assert told.descriptors[int(vhost["vhostfd"]) - 10] == OpenFile(path=Path("/dev/vhost-net"), writable=True)


def addresses(spec: QemuSpec) -> dict[str, tuple[Any, ...]]:
    """Where each device is, the controllers included."""
    return {
        found.get("id", found["driver"]): tuple(found.get(key) for key in ("bus", "addr", "scsi-id", "lun", "nr"))
        for found in Told(spec).objects("-device")
    }


@settings(max_examples=30, deadline=None)
@given(
    extra=st.lists(st.sampled_from(["virtio", "scsi", "sata", "usb"]), max_size=8),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "rng": st.just(True),
            "balloon": st.just(False),
            "agent": st.just(False),
            "screen": st.just(False),
            "watchdog": st.just(Watchdog()),
            "sound": st.sampled_from(["ich9", "ac97"]),
            "panic": st.just("pci"),
            "tablets": st.sampled_from([("usb",), ("virtio",)]),
        },
    ),
)
def test_no_device_moves_when_another_one_comes(extra: list[Any], fields: dict[str, Any]) -> None:
    drives = (disk("a"), disk("b", bus="scsi"), disk("c", bus="sata"))
    few = addresses(machine(drives=drives, nics=(nic(),)))
    more = (*drives, *(disk(f"x{number}", bus=bus) for number, bus in enumerate(extra)))
    many = addresses(machine(drives=more, nics=(nic(), nic("second")), **fields))
    assert {name: many[name] for name in few if name in many} == {name: few[name] for name in few if name in many}
    places = [place for place in many.values() if place[1] is not None]
    assert len(set(places)) == len(places)


def test_a_disk_in_its_port_stays_when_the_one_before_it_goes() -> None:
    both = addresses(machine(drives=(disk("a", port=0), disk("b", port=1))))
    assert addresses(machine(drives=(disk("b", port=1),)))["disk-b"] == both["disk-b"]


@pytest.mark.parametrize(
    ("fields", "environment"),
    [
        ({}, {}),
        ({"clock_offset_s": 3605}, {"TZ": "<guest>-01:00:05"}),
        ({"clock_offset_s": -90}, {"TZ": "<guest>+00:01:30"}),
        ({"timezone": "Europe/Helsinki"}, {"TZ": "Europe/Helsinki"}),
    ],
)
def test_the_clock_is_said_by_a_time_zone(fields: dict[str, Any], environment: dict[str, str]) -> None:
    assert qemu_unit(machine(**fields)).env == environment


def test_a_clock_that_is_too_far_off() -> None:
    with pytest.raises(UserError, match="clock"):
        qemu_unit(machine(clock_offset_s=168 * 3600))


def test_the_unit() -> None:
    spec = machine(
        drives=(disk(),), cpu_milli=1500, cpu=Cpu(cores=2, max_sockets=4), memory=Memory(size_bytes=256 * MIB, max_bytes=512 * MIB)
    )
    unit = qemu_unit(spec)
    assert (unit.name, unit.uid, unit.gid, unit.netns, unit.restart) == ("m-1", 100_001, 100_001, "pv-abcde-m-1", "never")
    assert unit.ready == SocketProbe(path=Path("/run/m/qmp.sock"))
    assert unit.cgroup is not None
    assert unit.cgroup.memory_bytes == 512 * MIB + overhead_bytes(512 * MIB, 8)
    assert unit.cgroup.cpu_milli == 1500
    assert unit.cgroup.pids == 128 + 2 * 8
    assert overhead_bytes(512 * MIB, 8) == (50 + 32 + 16 + 1 + 8 * 8 + 128) * MIB
    assert overhead_bytes(512 * MIB, 8, accelerator="kvm") == (50 + 32 + 16 + 1 + 8 * 8) * MIB
    assert qemu_unit(machine(group=36)).gid == 36
    # Kept and read again it is still the same unit, or an engine would replace what runs.
    assert qemu_unit(codec.decode(codec.encode(spec), QemuSpec)).digest == qemu_unit(spec).digest
