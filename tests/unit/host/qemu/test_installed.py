from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilvi.host.qemu.installed import UefiFiles, find_uefi


def describe(folder: Path, name: str, *, features: list[str], **changes: Any) -> UefiFiles:
    files = UefiFiles(folder / f"{name}.code", folder / f"{name}.vars")
    files.code.touch()
    files.variables.touch()
    description = {
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            "executable": {"filename": str(files.code), "format": "raw"},
            "nvram-template": {"filename": str(files.variables), "format": "raw"},
        },
        "targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}],
        "features": features,
        **changes,
    }
    (folder / f"{name}.json").write_text(json.dumps(description))
    return files


def test_the_first_that_fits(tmp_path: Path) -> None:
    describe(tmp_path, "60-plain-worse", features=[])
    plain = describe(tmp_path, "50-plain", features=["acpi-s3"])
    secure = describe(tmp_path, "40-secure", features=["secure-boot", "requires-smm"])
    assert find_uefi(secure_boot=False, folders=[tmp_path]) == plain
    assert find_uefi(secure_boot=True, folders=[tmp_path]) == secure


@pytest.mark.parametrize(
    "changes",
    [
        {"targets": [{"architecture": "aarch64", "machines": ["virt-*"]}]},
        {"targets": [{"architecture": "x86_64", "machines": ["microvm"]}]},
        {"interface-types": ["bios"]},
        {"mapping": {"device": "memory", "filename": "/x"}},
        {"features": ["secure-boot"]},
        {"mapping": {"executable": {"filename": "/absent", "format": "raw"}, "nvram-template": {"filename": "/absent", "format": "raw"}}},
    ],
)
def test_firmware_for_others(tmp_path: Path, changes: dict[str, Any]) -> None:
    describe(tmp_path, "50-plain", features=[])
    assert find_uefi(secure_boot=False, folders=[tmp_path]) is not None
    describe(tmp_path, "50-plain", **{"features": [], **changes})
    assert find_uefi(secure_boot=False, folders=[tmp_path]) is None


def test_what_the_administrator_says_hides_the_packages(tmp_path: Path) -> None:
    own, packages = tmp_path / "etc", tmp_path / "usr"
    own.mkdir()
    packages.mkdir()
    describe(packages, "50-plain", features=[])
    chosen = describe(own, "50-plain", features=[])
    assert find_uefi(secure_boot=False, folders=[own, packages]) == chosen
    assert find_uefi(secure_boot=False, folders=[tmp_path / "absent"]) is None
