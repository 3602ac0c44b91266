"""Whose child the engine is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilvi.engine import service
from pilvi.engine.process import EngineRecord, is_attended
from pilvi.host.units.identity import Identity
from pilvi.lib.deadline import wait_for


@pytest.fixture(autouse=True)
def _no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "is_available", lambda: False)


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[int]:
    """A process whose parent has died."""
    pid_file = tmp_path / "pid"
    program = f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    subprocess.run(["setsid", "--fork", sys.executable, "-c", program], check=True)
    while not pid_file.exists() or not pid_file.read_text():
        pass
    pid = int(pid_file.read_text())
    yield pid
    os.kill(pid, 9)


def _engine(pid: int) -> EngineRecord:
    return EngineRecord(Identity(boot="b", pid=pid, started=1), "1")


async def test_an_engine_whose_parent_was_killed_is_nobodys(orphan: int) -> None:
    await wait_for(lambda: not is_attended(_engine(orphan)), 10, "the first process to take it over")


def test_one_with_a_parent_is_attended() -> None:
    assert is_attended(_engine(os.getpid()))


def test_one_that_has_ended_is_not() -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
        assert not is_attended(_engine(ended.pid))


def test_systemd_attends_to_its_own(monkeypatch: pytest.MonkeyPatch, orphan: int) -> None:
    monkeypatch.setattr(service, "is_available", lambda: True)
    assert is_attended(_engine(orphan))
