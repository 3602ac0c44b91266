"""The one way to run an external command to its end.

Long-lived processes are units (`host.units`), not this. A command gets an argv list, never a shell string; an explicit
environment; a deadline; and a process group of its own, of which nothing is left when `run` returns or is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pilvi.errors import DriverError

__all__ = ["Completed", "run"]

log = logging.getLogger(__name__)

STDERR_TAIL_BYTES = 16 * 1024
SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command left: all of `stdout`, the tail of `stderr` (both decoded as UTF-8), and its exit code."""

    stdout: str
    stderr: str
    code: int


async def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    input: str | bytes | None = None,
    check: bool = True,
    cwd: Path | None = None,
    on_stdout: Callable[[bytes], None] | None = None,
) -> Completed:
    """Run `argv` and wait for its end.

    `env` is laid over a minimal environment (PATH, HOME, TMPDIR, LC_ALL=C.UTF-8); nothing else is inherited. `input` goes to
    stdin, which is empty otherwise; it is never logged. `timeout_s` is the deadline in seconds. `on_stdout` gets stdout in pieces as they
    come, for programs that tell how far they are; the result's is empty then.
    Raises DriverError when the program cannot be started, exceeds its deadline, or (with `check`) exits with another code than 0;
    a code below 0 means killed by that signal. After a failure or cancellation the whole process group has been killed.
    """
    words = [os.fspath(word) for word in argv]
    started = time.monotonic()
    start = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL if input is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(env),
            cwd=cwd,
            start_new_session=True,
        )
    )
    try:
        process = await asyncio.shield(start)
    except OSError as e:
        raise DriverError(words, 127, "", f"cannot start {words[0]}") from e
    except asyncio.CancelledError:
        # Cancelled inside, asyncio would kill the first process only, and wait for pipes that its children hold.
        with contextlib.suppress(OSError):
            await _kill_group(await start)
        raise

    stdout = bytearray()
    stderr = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(process.stdout, on_stdout or stdout.extend))
                group.create_task(_collect(process.stderr, stderr, STDERR_TAIL_BYTES))
                group.create_task(_feed(process.stdin, input))
            code = await process.wait()
    except TimeoutError as e:
        await _kill_group(process)
        raise DriverError(words, -signal.SIGKILL, _text(stderr), f"no end after {timeout_s:g} s: {shlex.join(words)}") from e
    except BaseException:
        await _kill_group(process)
        raise

    # The one line to copy when somebody wants to run the same by hand.
    log.debug("ran %s: exit %d after %.0f ms", shlex.join(words), code, (time.monotonic() - started) * 1000)
    if check and code != 0:
        raise DriverError(words, code, _text(stderr))
    return Completed(_text(stdout), _text(stderr), code)


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    environment = {"PATH": os.environ.get("PATH") or SAFE_PATH, "LC_ALL": "C.UTF-8"}
    for name in ("HOME", "TMPDIR"):
        if name in os.environ:
            environment[name] = os.environ[name]
    return {**environment, **(extra or {})}


async def _pass_on(stream: asyncio.StreamReader | None, take: Callable[[bytes], None]) -> None:
    while stream is not None and (chunk := await stream.read(65536)):
        take(chunk)


async def _collect(stream: asyncio.StreamReader | None, into: bytearray, keep_last: int) -> None:
    while stream is not None and (chunk := await stream.read(65536)):
        into += chunk
        if len(into) > keep_last:
            del into[:-keep_last]


async def _feed(stream: asyncio.StreamWriter | None, data: str | bytes | None) -> None:
    if stream is None or data is None:
        return
    try:
        stream.write(data.encode() if isinstance(data, str) else data)
        await stream.drain()
        stream.close()
        await stream.wait_closed()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the program ended without reading all of it; its exit code tells the rest


async def _kill_group(process: asyncio.subprocess.Process) -> None:
    """Leave nothing of the process group, also when this task is being cancelled.

    The leader may have exited while a child of it lives on; the group id stays valid as long as any member lives, and is not
    reused before. SIGKILL cannot be caught, so the wait is short; it is shielded, because a zombie must be reaped by us.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode is None:
        await asyncio.shield(process.wait())


def _text(data: bytearray) -> str:
    return data.decode("utf-8", "replace")
