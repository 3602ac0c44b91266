"""How fast a guest's console and screen come over any stream of bytes. Standard library only."""

import asyncio
import re
import struct
import time
from collections.abc import Awaitable, Callable

CONSOLE_BYTES = 512 << 10
SCREENS = 60
_AGAIN_S = 2.0
_PROMPT = re.compile(rb"\w+@[\w.-]+:\S*[#$] ")
Receive = Callable[[], Awaitable[bytes]]
Send = Callable[[bytes], Awaitable[None]]
Rate = Callable[[Receive, Send], Awaitable[float]]


async def console_rate(receive: Receive, send: Send) -> float:
    """Bytes in a second that the guest's shell prints, from the command until its last byte has come. Waits for the shell first."""
    seen = b""
    while not _PROMPT.search(seen):
        await send(b"\n")
        try:
            async with asyncio.timeout(_AGAIN_S):
                while not _PROMPT.search(seen):
                    seen = (seen + await receive())[-1000:]
        except TimeoutError:
            continue
    await send(f"head -c {CONSOLE_BYTES} /dev/zero | tr '\\0' x; echo e''nd\n".encode())
    started, count, tail = time.monotonic(), 0, b""
    while b"end" not in tail:
        chunk = await receive()
        count += len(chunk)
        tail = tail[-2:] + chunk
    assert count >= CONSOLE_BYTES, f"{count} bytes came"
    return CONSOLE_BYTES / (time.monotonic() - started)


async def screen_rate(receive: Receive, send: Send) -> float:
    """Bytes in a second of whole screens, asked for one after the other without compression, by the protocol of VNC (RFC 6143)."""
    held = bytearray()

    async def read(size: int) -> bytes:
        while len(held) < size:
            held.extend(await receive())
        taken = bytes(held[:size])
        del held[:size]
        return taken

    await read(12)
    await send(b"RFB 003.008\n")
    kinds = await read((await read(1))[0])
    assert 1 in kinds, "the screen asks for a password"
    await send(b"\1")
    assert await read(4) == bytes(4)
    await send(b"\1")  # others may look too
    width, height, depth, _, length = struct.unpack("!HHB15sI", await read(24))
    await read(length)
    await send(struct.pack("!BxHi", 2, 1, 0))  # raw
    started, count = time.monotonic(), 0
    for _ in range(SCREENS):
        await send(struct.pack("!BBHHHH", 3, 0, 0, 0, width, height))
        _, rectangles = struct.unpack("!BxH", await read(4))
        for _ in range(rectangles):
            _, _, wide, high, encoding = struct.unpack("!HHHHi", await read(12))
            assert encoding == 0
            count += len(await read(wide * high * depth // 8))
    return count / (time.monotonic() - started)
