"""The engine's systemd unit."""

import pytest

from pilvi.engine.service import unit_file
from tests.unit.providers.kamaji.objects import cloud


def test_systemd_never_gives_up_and_kills_the_engine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PILVI_CACHE", raising=False)
    lines = unit_file(cloud(), ["/usr/bin/python3", "-m", "pilvi.engine"]).splitlines()
    assert "StartLimitIntervalSec=0" in lines[: lines.index("[Service]")]
    assert "KillMode=process" in lines
    assert not [line for line in lines if line.startswith("Environment")]


def test_the_engine_finds_the_kit_where_this_command_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILVI_CACHE", "/big disk/100%")
    assert 'Environment="PILVI_CACHE=/big disk/100%%"' in unit_file(cloud(), ["/x"]).splitlines()
