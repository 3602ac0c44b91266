"""A machine to vary, and its command line as a person would ask about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pilvi.host.qemu.argv import argv
from pilvi.host.qemu.spec import Drive, Layer, Memory, Nic, QemuSpec, Sockets
from pilvi.host.units import OpenFile, OpenTap

MIB = 1 << 20


def machine(**fields: Any) -> QemuSpec:
    given: dict[str, Any] = {
        "name": "m-1",
        "title": "ns_vm",
        "uuid": "3f0a6f6e-2f40-4f3c-9e5c-6f6a1d1f1a11",
        "user": 100_001,
        "netns": "pv-abcde-m-1",
        "sockets": Sockets(folder=Path("/run/m")),
        "log": Path("/home/qemu.log"),
        "serial_log": Path("/home/serial.log"),
        "memory": Memory(size_bytes=256 * MIB),
        "machine": "pc-q35-7.2",
    }
    return QemuSpec(**{**given, **fields})


def disk(name: str = "root", **fields: Any) -> Drive:
    given: dict[str, Any] = {"name": name, "layers": (Layer(path=Path(f"/disks/{name}")),)}
    return Drive(**{**given, **fields})


def nic(name: str = "default", **fields: Any) -> Nic:
    given: dict[str, Any] = {"name": name, "tap": OpenTap(name=f"t{name}", netns="vpc"), "mac": "02:00:00:00:00:01"}
    return Nic(**{**given, **fields})


class Told:
    """What QEMU is told of a machine."""

    def __init__(self, spec: QemuSpec) -> None:
        self.words, self.descriptors = argv(spec)

    def values(self, option: str) -> list[str]:
        return [value for word, value in zip(self.words, self.words[1:], strict=False) if word == option]

    def value(self, option: str) -> str:
        (value,) = self.values(option)
        return value

    def options(self, option: str) -> dict[str, str]:
        """The value as properties; without commas in them."""
        return dict(part.partition("=")[::2] for part in self.value(option).split(","))

    def objects(self, option: str) -> list[dict[str, Any]]:
        return [json.loads(value) for value in self.values(option)]

    def device(self, driver: str) -> dict[str, Any]:
        (found,) = [found for found in self.objects("-device") if found["driver"] == driver]
        return found

    def devices(self, driver: str) -> list[dict[str, Any]]:
        return [found for found in self.objects("-device") if found["driver"] == driver]

    def file(self, path: str) -> OpenFile:
        """What stands behind a path of QEMU's; fails when it is none of the machine's own sets."""
        number = int(path.removeprefix("/dev/fdset/"))
        assert f"fd={number},set={number}" in self.values("-add-fd")
        found = self.descriptors[number - 10]
        assert isinstance(found, OpenFile)
        return found
