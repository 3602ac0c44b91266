"""Ignition: what is taken for a configuration, and the file that a guest finds it in."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilvi.errors import UserError
from pilvi.providers.kubevirt.machines.ignition import IGNITION, check_ignition, find_ignition
from pilvi.providers.kubevirt.machines.qemu.drives import MachineFiles
from pilvi.providers.kubevirt.machines.qemu.ignition import with_ignition
from tests.unit.providers.kubevirt.objects import make_vmi
from tests.unit.providers.kubevirt.test_qemu_machine import machine_spec, plan

CONFIG = '{"ignition": {"version": "3.4.0"}}'
MACHINE = msgspec.structs.replace(plan(), user=os.getuid())


@pytest.mark.parametrize(
    ("annotations", "wanted"),
    [({"other": "x"}, ""), (None, ""), ({IGNITION: ""}, ""), ({IGNITION: CONFIG}, CONFIG), ({IGNITION: "x"}, "x")],
)
def test_the_configuration_of_an_instance(annotations: dict[str, str] | None, wanted: str) -> None:
    vmi = make_vmi()
    vmi["metadata"]["annotations"] = annotations
    assert find_ignition(vmi) == wanted


@pytest.mark.parametrize("text", [CONFIG, ' {"ignition": {"version": "2.2.0", "config": {}}, "storage": {}}\n'])
def test_a_configuration(text: str) -> None:
    check_ignition(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("variant: fcos\nversion: 1.5.0\n", "is not JSON"),
        ('{"ignition": {"version": "3.4.0"}', "is not JSON"),
        ("[]", r"has no ignition\.version"),
        ("{}", r"has no ignition\.version"),
        ('{"ignition": "3.4.0"}', r"has no ignition\.version"),
        ('{"ignition": {"version": ""}}', r"has no ignition\.version"),
        ('{"ignition": {"version": 3}}', r"has no ignition\.version"),
        (CONFIG + " " * (1 << 20), "is larger than 1 MiB"),
    ],
)
def test_what_is_no_configuration(tmp_path: Path, text: str, words: str) -> None:
    files = MachineFiles(tmp_path / "machine")
    with pytest.raises(UserError, match=rf"^annotation kubevirt\.io/ignitiondata {words}") as raised:
        with_ignition(MACHINE, replace(machine_spec(), ignition=text), files)
    assert raised.value.hint
    assert not files.ignition.exists(), "nothing is kept of what was refused"


def found(files: MachineFiles, ignition: str, **fields: Any) -> dict[str, str]:
    """What the guest would find."""
    machine = with_ignition(msgspec.structs.replace(MACHINE, **fields), replace(machine_spec(), ignition=ignition), files)
    return {name: path.read_text() for name, path in machine.firmware_config.items()}


def test_a_guest_finds_what_it_was_made_with(tmp_path: Path) -> None:
    files = MachineFiles(tmp_path / "machine")
    wanted = {"opt/com.coreos/config": CONFIG}
    assert found(files, "") == {}
    assert found(files, CONFIG) == wanted
    assert files.ignition.stat().st_mode & 0o777 == 0o400
    for later in ("", "no configuration", '{"ignition": {"version": "3.5.0"}}'):
        assert found(files, later) == found(files, later, incoming=True) == wanted


def test_a_guest_that_began_without_one_moves_without_one(tmp_path: Path) -> None:
    files = MachineFiles(tmp_path / "machine")
    assert found(files, CONFIG, incoming=True) == {}
    assert not files.ignition.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="gives files to others")
def test_only_the_machines_user_reads_it_whoever_that_is_this_time(tmp_path: Path) -> None:
    files = MachineFiles(tmp_path / "machine")
    for user in (5050, 5051):
        found(files, CONFIG, user=user)
        assert (files.ignition.stat().st_uid, files.ignition.stat().st_gid) == (user, user)
