"""The smallest guests there are: a boot sector that says a word on the serial line, and then does one thing for ever or ends.

For what is about machines and not about their systems: QEMU is up after a tenth of a second, and so are they. They speak no DHCP and do
not hear the power button.
"""

from __future__ import annotations

import struct

__all__ = ["LOST", "SIZE", "boot_disk", "counting_disk"]

SIZE = 1 << 20
_PRINT = bytes.fromhex("fa 31c0 8ed8 be0000 baf803 ac 84c0 7403 ee ebf8")  # to COM1, until a zero
_HALT = bytes.fromhex("fb f4 ebfc")
_POWER_OFF = bytes.fromhex("ba0406 b80020 ef f4")  # q35: sleep type 5 through the PM1a control register of the firmware
_WRITE = bytes.fromhex("b80103 bb007e b90200 ba8000 cd13")  # one sector from 0x7e00 to the second of the first disk

# The pages of the segments from 0x1000 below 0x9000 are set to 0, and then raised by one in each round after a look at what they were.
_COUNT = bytes.fromhex(
    "fa baf803 31ed be0010"
    "8ec6 26892e0000 81c60001 81fe0090 72ef"  # all are 0
    "be0010 8ec6 26392e0000 751b 26ff060000 81c60001 81fe0090 72e8"  # a round
    "45 f7c5ff0f 75de b02e ee ebd9"  # says `.` after 4096
    "b058 ee f4 ebfd"  # says `X`
)
LOST = "X"
"""What the guest of `counting_disk` says for good when a page does not hold what was written to it last."""


def boot_disk(word: str, *, power_off: bool = False, write: bool = False) -> bytes:
    """A raw disk of SIZE bytes that boots by BIOS and prints `word`; with `write` it fills its second sector with what lies in memory."""
    code = _PRINT + (_WRITE if write else b"") + (_POWER_OFF if power_off else b"") + _HALT
    # `mov si, text`: the text stands behind the code.
    code = code.replace(b"\xbe\0\0", b"\xbe" + struct.pack("<H", 0x7C00 + len(code)), 1)
    return _disk(code + word.encode() + b"\r\n\0")


def counting_disk() -> bytes:
    """Counts in 128 pages, without a page table that could change, and prints dots; LOST, and nothing more, when a page is stale."""
    return _disk(_COUNT)


def _disk(sector: bytes) -> bytes:
    assert len(sector) <= 510, "a boot sector has no room for that"
    return (sector.ljust(510, b"\0") + b"\x55\xaa").ljust(SIZE, b"\0")
