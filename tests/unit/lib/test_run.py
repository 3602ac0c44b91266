from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from pilvi.errors import DriverError
from pilvi.lib.deadline import wait_for
from pilvi.lib.run import run


async def test_output_input_and_code() -> None:
    done = await run(["sh", "-c", "cat; echo oops >&2; exit 3"], input="hello", timeout_s=5, check=False)
    assert (done.stdout, done.stderr, done.code) == ("hello", "oops\n", 3)


async def test_failure_carries_argv_code_and_stderr() -> None:
    with pytest.raises(DriverError, match=r"exit code 7.*no such thing") as caught:
        await run(["sh", "-c", "echo no such thing >&2; exit 7"], timeout_s=5)
    assert caught.value.code == 7
    assert caught.value.argv[0] == "sh"


async def test_output_in_pieces_as_it_comes() -> None:
    pieces: list[bytes] = []
    done = await run(["sh", "-c", "echo one; sleep 0.2; echo two; echo oops >&2"], timeout_s=5, on_stdout=pieces.append)
    assert (done.stdout, done.stderr) == ("", "oops\n")
    assert pieces == [b"one\n", b"two\n"]


async def test_missing_program() -> None:
    with pytest.raises(DriverError, match="cannot start /no/such/program"):
        await run(["/no/such/program"], timeout_s=5)


async def test_only_the_tail_of_stderr_is_kept() -> None:
    done = await run(["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x >&2; echo end >&2"], timeout_s=10)
    assert len(done.stderr) == 16 * 1024
    assert done.stderr.endswith("xend\n")


async def test_environment_is_explicit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILVI_SECRET", "leaks")
    done = await run(["env"], env={"A": "b"}, timeout_s=5)
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert "A" in names
    assert "PATH" in names
    assert "PILVI_SECRET" not in names


async def test_a_program_that_ignores_its_input_is_fine() -> None:
    done = await run(["true"], input=b"x" * 10_000_000, timeout_s=10)
    assert done.code == 0


async def test_timeout_kills_the_whole_group(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match=r"no end after 0\.5 s"):
        await run(["sh", "-c", f"sleep 1000 & echo $! > {tmp_path}/child; sleep 1000"], timeout_s=0.5)
    await _is_dead(int((tmp_path / "child").read_text()))


async def test_timeout_also_when_only_a_grandchild_is_left(tmp_path: Path) -> None:
    # It holds the pipes open, so the command has not ended although its first process has.
    with pytest.raises(DriverError, match=r"no end after 0\.5 s"):
        await run(["sh", "-c", f"sleep 1000 & echo $! > {tmp_path}/child"], timeout_s=0.5)
    await _is_dead(int((tmp_path / "child").read_text()))


async def test_cancellation_kills_the_whole_group(tmp_path: Path) -> None:
    child = tmp_path / "child"
    task = asyncio.create_task(run(["sh", "-c", f"sleep 1000 & echo $! > {child}; sleep 1000"], timeout_s=100))
    await wait_for(lambda: child.exists() and child.read_text().strip(), 30, "the child")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _is_dead(int(child.read_text()))


async def test_cancellation_while_it_is_being_started_kills_the_whole_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = asyncio.create_subprocess_exec

    async def start_slowly(*argv: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*argv, **options)
        await asyncio.sleep(0.3)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_slowly)
    child = tmp_path / "child"
    task = asyncio.create_task(run(["sh", "-c", f"sleep 30 & echo $! > {child}; sleep 30"], timeout_s=100))
    await wait_for(lambda: child.exists() and child.read_text().strip(), 30, "the child")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _is_dead(int(child.read_text()))


async def test_one_line_to_copy_and_no_input_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "pilvi.lib.run"):
        await run(["cat", "/dev/null", "-"], input="a secret", timeout_s=5)
    (record,) = caplog.records
    assert "cat /dev/null -" in record.getMessage()
    assert "secret" not in caplog.text


async def _is_dead(pid: int) -> None:
    def dead() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    await wait_for(dead, 30, f"the end of process {pid}")
    assert pid != os.getpid()
