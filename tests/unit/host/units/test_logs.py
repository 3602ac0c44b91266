import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pilvi.host.units import logs


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOG_LIMIT_BYTES", 100)


def test_rotate_keeps_one(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "a.log"
    logs.rotate(log)
    for content in ("1" * 101, "2" * 101):
        log.write_text(content)
        logs.rotate(log)
        assert not log.exists()
        assert (tmp_path / "logs" / "a.log.1").read_text() == content
    log.write_text("short")
    logs.rotate(log)
    assert log.read_text() == "short"


def test_shorten_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with open(log, "a") as writer:
        writer.write("x" * 50 + "y" * 100)
        writer.flush()
        logs.shorten(log)
        assert (tmp_path / "a.log.1").read_text() == "y" * 100
        writer.write("next")
    assert log.read_text() == "next"
    logs.shorten(log)
    assert log.read_text() == "next"
    logs.shorten(tmp_path / "none")


def test_tail_gives_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert logs.tail(log) == ""
    log.write_text("first\nsecond\nthird\n")
    assert logs.tail(log) == "first\nsecond\nthird\n"
    assert logs.tail(log, 10) == "third\n"
    log.write_bytes(b"no newline \xff at all")
    assert logs.tail(log, 5) == "t all"


def test_a_log_is_emptied_although_the_disk_has_no_room_for_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sendfile(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "sendfile", sendfile)
    log = tmp_path / "a.log"
    log.write_text("x" * 101)
    with pytest.raises(OSError, match="No space left"):
        logs.shorten(log)
    assert log.read_text() == ""
