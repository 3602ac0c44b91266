"""The floor of virtual machines: QEMU by hand.

Usage: machine.py greets ADDRESS waits, in the network of a guest that others have started, until its SSH server greets, asked every 20 ms.
Usage: machine.py many DISK MEMORY_MIB NUMBER prints

    many SECONDS         from the start of the first of so many machines until every one's monitor says that its guest runs

Usage: machine.py DISK MEMORY_MIB, where DISK is the guest's qcow2 file; prints

    running SECONDS      from the start of QEMU, with its overlay, until the monitor says that the guest runs
    answers SECONDS      until the guest's SSH server greets
    qemu BYTES           memory of the process then, without the guest's own
"""

import sys
import time
from contextlib import ExitStack
from pathlib import Path

from qemu import machine, process_bytes, wait_greeting


def main(disk: str, memory_mib: str) -> None:
    """Start, measure, end."""
    started = time.monotonic()
    with machine(Path(disk), int(memory_mib)) as made:
        made.monitor().wait("query-status", "running")
        print("running", time.monotonic() - started)
        wait_greeting("127.0.0.1", made.port)
        print("answers", time.monotonic() - started)
        print("qemu", process_bytes(made.pid))


def many(disk: str, memory_mib: str, number: str) -> None:
    """Start all, then ask all."""
    started = time.monotonic()
    with ExitStack() as stack:
        for made in [stack.enter_context(machine(Path(disk), int(memory_mib))) for _ in range(int(number))]:
            made.monitor().wait("query-status", "running")
        print("many", time.monotonic() - started)


if __name__ == "__main__":
    if sys.argv[1] == "greets":
        wait_greeting(sys.argv[2], 22)
    elif sys.argv[1] == "many":
        many(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
