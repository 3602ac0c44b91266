"""The platform's certificates outlive no engine that runs longer than they do."""

import asyncio
from pathlib import Path

import pytest

from pilvi.plane import up
from tests.unit.providers.kamaji.objects import cloud


async def test_they_are_looked_at_again_and_again_also_after_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []

    def ensure(home: Path, plane: object) -> str:
        calls.append("keys")
        return "keys"

    def install(_cloud: object, _plane: object, keys: str) -> None:
        calls.append("files")
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(up, "CERTIFICATES_CHECK_S", 0.001)
    monkeypatch.setattr(up, "platform_control_plane", lambda _cloud: None)
    monkeypatch.setattr(up, "ensure_platform_keys", ensure)
    monkeypatch.setattr(up, "_install_files", install)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await up.keep_certificates(cloud(tmp_path))
    assert calls[:4] == ["keys", "files", "keys", "files"]
