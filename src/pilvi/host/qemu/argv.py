"""QEMU's command line. Pure: the same machine gives the same words, so that an engine knows a running one as the one it wants.

Every path that QEMU would open is a descriptor that its unit is handed; the sockets it makes itself, in the machine's own folder.
"""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

from pilvi.host.qemu.cards import card_words
from pilvi.host.qemu.descriptors import Descriptors
from pilvi.host.qemu.drives import drive_words
from pilvi.host.qemu.firmware import firmware_properties, firmware_words
from pilvi.host.qemu.gear import channel_words, gear_words
from pilvi.host.qemu.ports import root_ports
from pilvi.host.qemu.processor import processor_words
from pilvi.host.qemu.spec import QemuSpec
from pilvi.host.qemu.words import Words, escaped, switch
from pilvi.host.units import OpenFile, OpenTap

__all__ = ["PROGRAM", "SANDBOX", "Command", "argv"]

PROGRAM = "qemu-system-x86_64"

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
"""System calls that QEMU may not make: it starts no program, gains no right, changes no priority."""


class Command(NamedTuple):
    """The words, and what the process has to be handed for them."""

    argv: tuple[str, ...]
    descriptors: tuple[OpenFile | OpenTap, ...]


def argv(spec: QemuSpec) -> Command:
    """How QEMU is started as the machine. Raises UserError for what no machine can be."""
    descriptors = Descriptors()
    words = [
        *_process(spec),
        *processor_words(spec),
        *firmware_words(spec, descriptors),
        *channel_words(spec, descriptors),
        *root_ports(),
        *gear_words(spec),
        *drive_words(spec, descriptors),
        *card_words(spec, descriptors),
    ]
    flags = ["-nodefaults", "-no-user-config", *(["-S"] if spec.paused else [])]
    return Command((PROGRAM, *flags, *descriptors.arguments(), *chain.from_iterable(words)), descriptors.opened)


def _process(spec: QemuSpec) -> list[Words]:
    timers = spec.timers
    machine = {
        "type": spec.machine,
        "memory-backend": "ram",
        "vmport": "off",
        "dump-guest-core": "off",
        "acpi": switch(spec.acpi),
        **firmware_properties(spec),
        **({} if timers.hpet is None else {"hpet": switch(timers.hpet)}),
    }
    # The process stays whatever the guest does: it is what knows how the guest ended, also while nobody asks.
    action = {"shutdown": "pause", "panic": "pause", "reboot": "shutdown" if spec.reboot == "exit" else "reset"}
    if spec.watchdog is not None:
        action["watchdog"] = spec.watchdog.action
    return [
        ("-name", f"guest={escaped(spec.title)},debug-threads=on"),
        ("-display", "none"),
        ("-msg", "timestamp=on"),
        ("-sandbox", SANDBOX),
        ("-machine", _list(machine)),
        ("-action", _list(action)),
        *([("-incoming", "defer")] if spec.incoming else []),
    ]


def _list(properties: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in properties.items())
