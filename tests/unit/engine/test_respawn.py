"""The minimal parent of the engine, as the process that it is."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pilvi.engine import respawn

HOPELESS = 78


def start(tmp_path: Path, program: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", "-S", respawn.__file__, str(tmp_path / "parent.json"), str(HOPELESS), "/bin/sh", "-c", program]
    return subprocess.Popen(argv, stderr=subprocess.DEVNULL)


def until(predicate: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not predicate():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_starts_again_what_dies_and_not_what_is_hopeless(tmp_path: Path) -> None:
    count = tmp_path / "count"
    parent = start(tmp_path, f"echo >> {count}; [ $(wc -l < {count}) = 2 ] && exit {HOPELESS}; exit 1")
    assert parent.wait(10) == HOPELESS
    assert count.read_text() == "\n\n"
    assert not (tmp_path / "parent.json").exists()


def test_told_to_stop_it_ends_the_engine_and_itself(tmp_path: Path) -> None:
    parent = start(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip() != "")
    assert json.loads((tmp_path / "parent.json").read_text())["process"]["pid"] == parent.pid
    parent.send_signal(signal.SIGTERM)
    parent.wait(10)
    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text().strip()}")


def test_told_to_stop_while_it_waits_it_ends_at_once(tmp_path: Path) -> None:
    """`pilvi down` waits for it, and the delay grows to half a minute."""
    once = tmp_path / "once"
    code = (
        "import sys; from pathlib import Path; from pilvi.engine import respawn\n"
        "respawn.FIRST_DELAY_S = respawn.LONGEST_DELAY_S = 60.0\n"
        "sys.exit(respawn.main(Path(sys.argv[1]), 78, sys.argv[2:]))"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "parent.json"), "/bin/sh", "-c", f"touch {once}; exit 1"]
    parent = subprocess.Popen(argv, stderr=subprocess.PIPE)
    assert parent.stderr is not None
    assert b"starting it again" in parent.stderr.readline()
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(10) == 1
    parent.stderr.close()
    assert once.exists()
    assert not (tmp_path / "parent.json").exists()


def test_what_a_killed_one_has_left_goes(tmp_path: Path) -> None:
    (tmp_path / ".parent.json.new").write_text("half of a record")
    parent = start(tmp_path, "exit 0")
    assert parent.wait(10) == 0
    assert [*tmp_path.iterdir()] == []
