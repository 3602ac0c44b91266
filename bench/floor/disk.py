"""The floor of a machine's disk: a raw file of the host, written and read past the cache. Standard library only; needs root.

Usage: disk.py FOLDER MIB; prints `write SECONDS`, the bytes on the disk, and `read SECONDS`, with cold caches.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

MIB = 1 << 20


def main(folder: str, size_mib: str) -> None:
    """Write, forget, read."""
    block = bytes(MIB)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        started = time.monotonic()
        for _ in range(int(size_mib)):
            file.write(block)
        os.fsync(file.fileno())
        print("write", time.monotonic() - started)
        Path("/proc/sys/vm/drop_caches").write_text("1")
        file.seek(0)
        started = time.monotonic()
        while file.read(MIB):
            pass
        print("read", time.monotonic() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
