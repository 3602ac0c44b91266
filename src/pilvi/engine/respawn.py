"""A minimal parent for the engine on machines without systemd: starts it again when it dies.

Run as `python -I -S respawn.py RECORD HOPELESS ARGV...`, imports nothing but the standard library, so it needs few megabytes. It
writes its own identity to the file RECORD. It ends when the engine ends well, ends with the code HOPELESS, or when told to.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
STABLE_S = 60.0
STEP_S = 0.2


def main(record: Path, hopeless: int, argv: list[str]) -> int:
    """Run `argv` until it ends for good; returns its last exit code."""
    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
        if engine is not None and engine.poll() is None:
            engine.terminate()

    engine: subprocess.Popen[bytes] | None = None
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    write_identity(record)
    delay_s = FIRST_DELAY_S
    while True:
        started = time.monotonic()
        engine = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        if stopping:  # told so while it was being started, when there was nothing to pass it on to
            engine.terminate()
        code = engine.wait()
        if stopping or code in (0, hopeless):
            record.unlink(missing_ok=True)
            return code
        delay_s = FIRST_DELAY_S if time.monotonic() - started > STABLE_S else min(delay_s * 2, LONGEST_DELAY_S)
        print(f"the engine ended with code {code}; starting it again in {delay_s:g} s", file=sys.stderr, flush=True)  # noqa: T201
        until = time.monotonic() + delay_s
        while not stopping and time.monotonic() < until:
            time.sleep(STEP_S)  # a signal does not cut a sleep short
        if stopping:
            record.unlink(missing_ok=True)
            return code


def write_identity(path: Path) -> None:
    """Write which process this is, in the form of the engine's own record."""
    stat = Path("/proc/self/stat").read_bytes()
    started = int(stat[stat.rindex(b")") + 2 :].split()[19])
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps({"process": {"boot": boot, "pid": os.getpid(), "started": started}, "version": ""}), encoding="ascii")
    temporary.rename(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
