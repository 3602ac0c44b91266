"""What a machine boots with: BIOS or UEFI, a kernel, the tables and files that firmware shows. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pilvi.host.qemu.descriptors import Descriptors
from pilvi.host.qemu.spec import Bios, QemuSpec, Uefi
from pilvi.host.qemu.words import Words, escaped, json_option
from pilvi.host.units import OpenFile

__all__ = ["firmware_properties", "firmware_words"]

_TABLES = {"bios": 0, "system": 1, "board": 2, "chassis": 3}


def firmware_words(spec: QemuSpec, descriptors: Descriptors) -> Iterator[Words]:
    """Firmware, boot, kernel, SMBIOS, configuration."""
    if isinstance(spec.firmware, Uefi):
        yield from _flash(spec.firmware, descriptors)
    yield "-boot", "strict=on"
    if spec.kernel is not None:
        yield "-kernel", descriptors.proc_path(spec.kernel.kernel)
        if spec.kernel.initrd is not None:
            yield "-initrd", descriptors.proc_path(spec.kernel.initrd)
        if spec.kernel.arguments:
            yield "-append", spec.kernel.arguments
    yield "-uuid", spec.uuid
    for table, strings in spec.smbios.items():
        yield "-smbios", ",".join((f"type={_TABLES[table]}", *(f"{name}={escaped(value)}" for name, value in strings.items())))
    for name, file in spec.firmware_config.items():
        yield "-fw_cfg", f"name={escaped(name)},file={descriptors.proc_path(file)}"


def firmware_properties(spec: QemuSpec) -> dict[str, str]:
    """Properties of the machine itself."""
    match spec.firmware:
        case Uefi(secure_boot=secure):
            return {"pflash0": "uefi-code", "pflash1": "uefi-variables", **({"smm": "on"} if secure else {})}
        case Bios(serial=True):
            # SeaBIOS then takes the serial line for its console.
            return {"graphics": "off"}
    return {}


def _flash(firmware: Uefi, descriptors: Descriptors) -> Iterator[Words]:
    for name, path, writable in (("uefi-code", firmware.code, False), ("uefi-variables", firmware.variables, True)):
        file = {"driver": "file", "filename": descriptors.path(OpenFile(path=path, writable=writable)), "read-only": not writable}
        yield json_option("-blockdev", {"driver": "raw", "node-name": name, "read-only": not writable, "file": file})
    if firmware.secure_boot:
        # Only the firmware may change its variables, and only in system management mode.
        yield "-global", "driver=cfi.pflash01,property=secure,value=on"
        # OVMF with secure boot does not come back from suspend to memory.
        yield "-global", "ICH9-LPC.disable_s3=1"
