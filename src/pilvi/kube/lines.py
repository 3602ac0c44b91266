"""Splits a stream of bytes into lines.

Why not aiohttp's own line iterator: it stops at 128 KiB, and one watch line holds a whole object.
"""

from __future__ import annotations

from pilvi.errors import ApiUnreachable

__all__ = ["MAX_LINE_BYTES", "LineSplitter"]

# etcd takes objects of 1.5 MiB; as JSON with managedFields they grow. What is larger is not a watch stream.
MAX_LINE_BYTES = 8 * 1024 * 1024


class LineSplitter:
    """Collects chunks of any size and gives back whole lines without their line ends."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._rest = bytearray()
        self._max_line_bytes = max_line_bytes

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next chunk and return the lines that are now complete; empty lines are dropped.

        Raises ApiUnreachable when a line grows beyond the limit: the stream is unusable from there on.
        """
        # Searching only the new chunk keeps a long line that arrives in many pieces linear.
        end = chunk.rfind(b"\n")
        if end < 0:
            self._keep(chunk)
            return []
        head = bytes(self._rest) + chunk[:end]
        self._rest = bytearray(chunk[end + 1 :])
        return [line for line in head.split(b"\n") if line]

    def _keep(self, chunk: bytes) -> None:
        self._rest += chunk
        if len(self._rest) > self._max_line_bytes:
            raise ApiUnreachable(f"the API server sent a watch line of more than {self._max_line_bytes} bytes")
