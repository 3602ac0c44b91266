"""A guest of a few hundred bytes: the first process of a Linux that says a word and powers off.

It shows that a real kernel boots, which neither the presence of /dev/kvm nor the start of a BIOS does.
"""

from __future__ import annotations

import struct

__all__ = ["WORD", "tiny_initrd"]

WORD = b"pilvi-guest-runs\n"
"""What the guest writes to its console."""

_LOAD_ADDRESS, _HEADERS_BYTES, _CODE_BYTES = 0x400000, 64 + 56, 46
_SYS_WRITE, _SYS_REBOOT = 1, 169
_REBOOT_MAGIC_1, _REBOOT_MAGIC_2, _POWER_OFF = 0xFEE1DEAD, 672274793, 0x4321FEDC


def tiny_initrd() -> bytes:
    """An initramfs (newc, see the kernel's Documentation/driver-api/early-userspace/buffer-format.rst) whose /init is the program."""
    return _entry("init", _program(), mode=0o100755) + _entry("TRAILER!!!", b"", mode=0)


def _program() -> bytes:
    """A static ELF for x86-64: write(1, WORD); reboot(power off); then it waits, since the kernel panics when init ends."""

    def move(opcode: int, value: int) -> bytes:
        return bytes([opcode]) + struct.pack("<I", value)

    eax, edi, esi, edx, syscall = 0xB8, 0xBF, 0xBE, 0xBA, b"\x0f\x05"
    word_address = _LOAD_ADDRESS + _HEADERS_BYTES + _CODE_BYTES
    code = move(eax, _SYS_WRITE) + move(edi, 1) + move(esi, word_address) + move(edx, len(WORD)) + syscall
    code += move(eax, _SYS_REBOOT) + move(edi, _REBOOT_MAGIC_1) + move(esi, _REBOOT_MAGIC_2) + move(edx, _POWER_OFF) + syscall
    code += b"\xeb\xfe"  # jump to itself
    size = _HEADERS_BYTES + len(code) + len(WORD)
    entry = _LOAD_ADDRESS + _HEADERS_BYTES
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x1000)
    return header + segment + code + WORD


def _entry(name: str, data: bytes, mode: int) -> bytes:
    fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(f"{field:08x}".encode() for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
