"""What of a machine's specification has no effect in a sandbox: hardware that it has not. Pure."""

from __future__ import annotations

from typing import Any

from pilvi.api.resource import JsonObject
from pilvi.providers.kubevirt.machines.ignition import IGNITION

__all__ = ["find_unused"]

# Below spec; a part in brackets is each entry of a list.
_HARDWARE = (
    "domain.chassis",
    "domain.clock",
    "domain.cpu.features",
    "domain.cpu.model",
    "domain.features",
    "domain.firmware.bootloader",
    "domain.firmware.kernelBoot",
    "domain.machine.type",
    "domain.rebootPolicy",
    "domain.devices.inputs",
    "domain.devices.sound",
    "domain.devices.tpm",
    "domain.devices.video",
    "domain.devices.watchdog",
    "domain.devices.disks[].serial",
    "domain.devices.interfaces[].model",
    "domain.devices.interfaces[].portRanges",
    "domain.devices.interfaces[].ports",
    "volumes[].configMap",
    "volumes[].downwardAPI",
    "volumes[].secret",
    "volumes[].serviceAccount",
    "volumes[].sysprep",
)
# What stands there without anybody having asked for something else than a sandbox has.
_AS_IT_IS = {
    "domain.machine.type": ("q35", ""),
    "domain.cpu.model": ("host-model", ""),
    "domain.devices.interfaces[].model": ("virtio", ""),
}


def find_unused(instance: JsonObject, ignition: str = "") -> tuple[str, ...]:
    """Paths below the instance's spec that are set and mean nothing to a sandbox, in a fixed order, then the annotation of Ignition."""
    unused = [path for path in _HARDWARE if any(value not in (None, *_AS_IT_IS.get(path, ())) for value in _values(instance, path))]
    return (*unused, f"annotation {IGNITION}") if ignition else tuple(unused)


def _values(part: Any, path: str) -> list[Any]:
    if not path:
        return [part]
    if not isinstance(part, dict):
        return []
    name, _, rest = path.partition(".")
    found = part.get(name.removesuffix("[]"))
    if name.endswith("[]"):
        return [value for entry in found or [] for value in _values(entry, rest)]
    return _values(found, rest)
