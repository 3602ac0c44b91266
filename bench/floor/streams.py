"""The floor of console and screen: QEMU's own sockets. Standard library only.

Usage: streams.py DISK MEMORY_MIB; prints `console BYTES` and `screen BYTES`, in a second each, of a guest of QEMU by hand.
"""

import asyncio
import sys
from pathlib import Path

from qemu import machine
from rates import Rate, console_rate, screen_rate


async def of_socket(path: Path, rate: Rate) -> float:
    """Measure QEMU's own socket."""
    reader, writer = await asyncio.open_unix_connection(path)

    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    async def receive() -> bytes:
        data = await reader.read(1 << 16)
        assert data, f"{path} has ended"
        return data

    try:
        return await rate(receive, send)
    finally:
        writer.close()


def main(disk: str, memory_mib: str) -> None:
    """Boot, ask for both."""
    with machine(Path(disk), int(memory_mib), serial="socket") as made:
        made.monitor().wait("query-status", "running")
        print("console", asyncio.run(of_socket(made.folder / "serial", console_rate)))
        print("screen", asyncio.run(of_socket(made.folder / "vnc", screen_rate)))


if __name__ == "__main__":
    main(*sys.argv[1:])
