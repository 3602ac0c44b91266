"""The floor of a live migration: two QEMU by hand on one disk, memory sent over a Unix socket without a limit. Standard library only.

Usage: move.py DISK MEMORY_MIB; prints `moved SECONDS` and `down SECONDS`, both as the source counts them, when the guest has booted.
"""

import sys
import time
from pathlib import Path

from qemu import machine, wait_greeting

SETTLE_S = 2.0


def main(disk: str, memory_mib: str) -> None:
    """Boot, move, tell."""
    with machine(Path(disk), int(memory_mib)) as source:
        wait_greeting("127.0.0.1", source.port)
        time.sleep(SETTLE_S)
        channel, overlay = f"unix:{source.folder}/move", source.folder / "disk.qcow2"
        with machine(Path(disk), int(memory_mib), "-incoming", channel, overlay=overlay) as target:
            target.monitor().wait("query-status", "inmigrate")
            monitor = source.monitor()
            monitor.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40, "downtime-limit": 300})
            monitor.ask("migrate", uri=channel)
            found = monitor.wait("query-migrate", "completed")
            print("moved", found["total-time"] / 1000)
            print("down", found["downtime"] / 1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
