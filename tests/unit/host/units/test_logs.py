from pathlib import Path

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
