"""What this host's QEMU is: its version, its newest machine type, and the UEFI firmware that goes with it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pilvi.errors import UserError
from pilvi.host.qemu.argv import PROGRAM
from pilvi.lib.files import find_json
from pilvi.lib.run import SAFE_PATH, run

__all__ = ["FIRMWARE_FOLDERS", "Qemu", "UefiFiles", "find_qemu", "find_uefi", "has_qemu"]

FIRMWARE_FOLDERS = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))
"""Where packages describe their firmware (QEMU's docs/interop/firmware.json); a file of the same name in an earlier one hides another."""

_TIMEOUT_S = 20.0


class Qemu(NamedTuple):
    """The installed QEMU. `machine` is the newest q35, such as `pc-q35-7.2`."""

    path: Path
    version: str
    machine: str


class UefiFiles(NamedTuple):
    """A firmware: its code, and what a new machine's variables are copied from."""

    code: Path
    variables: Path


def has_qemu() -> bool:
    """Whether there is one, which costs a look into a few folders."""
    return shutil.which(PROGRAM, path=SAFE_PATH) is not None


async def find_qemu() -> Qemu | None:
    """None when there is none. Raises DriverError when it cannot be run, UserError when it is none for these machines."""
    path = shutil.which(PROGRAM, path=SAFE_PATH)
    if path is None:
        return None
    version = re.search(r"version (\S+)", (await run([path, "--version"], timeout_s=_TIMEOUT_S)).stdout)
    machine = re.search(r"^q35 .*\(alias of (pc-q35-[\d.]+)\)", (await run([path, "-machine", "help"], timeout_s=_TIMEOUT_S)).stdout, re.M)
    if version is None or machine is None:
        raise UserError(f"{path} knows no machine q35", hint="install the Debian package qemu-system-x86")
    return Qemu(Path(path), version[1], machine[1])


def find_uefi(*, secure_boot: bool, folders: Iterable[Path] = FIRMWARE_FOLDERS) -> UefiFiles | None:
    """The firmware of this host that packages recommend most, with or without secure boot; None when there is none.

    For secure boot one that knows Microsoft's keys is preferred, as guests are signed with them.
    """
    described: dict[str, Any] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            described.setdefault(path.name, find_json(path))
    found = [files for name in sorted(described) if (files := _read(described[name], secure_boot=secure_boot)) is not None]
    return found[0] if found else None


def _read(description: Any, *, secure_boot: bool) -> UefiFiles | None:
    try:
        machines = [machine for target in description["targets"] if target["architecture"] == "x86_64" for machine in target["machines"]]
        code, variables = (description["mapping"][part] for part in ("executable", "nvram-template"))
        fits = any(machine.startswith("pc-q35") for machine in machines) and "uefi" in description["interface-types"]
        fits = fits and {code["format"], variables["format"]} == {"raw"} and ("secure-boot" in description["features"]) == secure_boot
        files = UefiFiles(Path(code["filename"]), Path(variables["filename"]))
    except (KeyError, TypeError):
        return None  # firmware of another kind, such as one for SEV
    return files if fits and files.code.is_file() and files.variables.is_file() else None
