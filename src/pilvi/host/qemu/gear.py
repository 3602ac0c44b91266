"""What else is in or on a machine: channels to the host, screen, sound, random numbers, watchdog, TPM. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pilvi.host.qemu.descriptors import Descriptors
from pilvi.host.qemu.ports import SLOTS
from pilvi.host.qemu.processor import MEMORY_BLOCK, memory_backend, more_bytes
from pilvi.host.qemu.spec import QemuSpec
from pilvi.host.qemu.words import Words, device, escaped, json_option
from pilvi.host.units import OpenFile

__all__ = ["AGENT_CHANNEL", "MORE_MEMORY", "channel_words", "gear_words"]

AGENT_CHANNEL = "org.qemu.guest_agent.0"
MORE_MEMORY = "memory"
"""The device that offers the guest memory while it runs."""
_VIDEO = {"vga": "VGA", "virtio": "virtio-vga", "bochs": "bochs-display", "cirrus": "cirrus-vga"}


def channel_words(spec: QemuSpec, descriptors: Descriptors) -> Iterator[Words]:
    """The monitor, the serial console with its log, the guest agent's channel, the TPM's."""
    yield "-chardev", f"socket,id=qmp,path={escaped(spec.sockets.monitor)},server=on,wait=off"
    yield "-mon", "chardev=qmp,mode=control"
    if spec.serial:
        log = descriptors.path(OpenFile(path=spec.serial_log, append=True))
        yield "-chardev", f"socket,id=serial,path={escaped(spec.sockets.serial)},server=on,wait=off,logfile={log},logappend=on"
        yield device("isa-serial", chardev="serial", index=0)
    # The controller is there also without a channel, so that one more port never moves another device.
    yield device("virtio-serial-pci", id="channels", bus="pcie.0", addr=SLOTS["channels"])
    if spec.agent:
        yield "-chardev", f"socket,id=agent,path={escaped(spec.sockets.agent)},server=on,wait=off"
        yield device("virtserialport", id="agent-port", bus="channels.0", nr=1, chardev="agent", name=AGENT_CHANNEL)
    if spec.tpm is not None:
        yield "-chardev", f"socket,id=tpm,path={escaped(spec.tpm)}"
        yield "-tpmdev", "emulator,id=tpm,chardev=tpm"
        yield device("tpm-crb", tpmdev="tpm")


def gear_words(spec: QemuSpec) -> Iterator[Words]:
    """Controllers that are always there, and the devices that were asked for."""
    yield device("virtio-scsi-pci", id="scsi", bus="pcie.0", addr=SLOTS["scsi"])
    if "usb" in spec.tablets or any(drive.bus == "usb" for drive in spec.drives):
        yield device("qemu-xhci", id="usb", bus="pcie.0", addr=SLOTS["usb"], p2=15, p3=15)
    if spec.balloon:
        # Pages that the guest frees go back to the host by themselves.
        properties = {"free-page-reporting": True}
        yield device("virtio-balloon-pci", id="balloon", bus="pcie.0", addr=SLOTS["balloon"], **properties)
    if more := more_bytes(spec):
        # Of the whole only what the guest has taken costs anything.
        yield json_option("-object", memory_backend(spec, "more-ram", more))
        offered = {"memdev": "more-ram", "requested-size": 0, "block-size": MEMORY_BLOCK}
        yield device("virtio-mem-pci", id=MORE_MEMORY, bus="pcie.0", addr=SLOTS["memory"], **offered)
    if spec.rng:
        yield json_option("-object", {"qom-type": "rng-builtin", "id": "rng"})
        yield device("virtio-rng-pci", rng="rng", bus="pcie.0", addr=SLOTS["rng"])
    if spec.watchdog is not None:
        yield device("i6300esb", id="watchdog", bus="pcie.0", addr=SLOTS["watchdog"])
    if spec.panic is not None:
        place = {} if spec.panic == "isa" else {"bus": "pcie.0", "addr": SLOTS["panic"]}
        yield device("pvpanic" if spec.panic == "isa" else "pvpanic-pci", **place)
    yield from _screen(spec)
    for number, kind in enumerate(spec.tablets):
        if kind == "usb":
            yield device("usb-tablet", id=f"tablet{number}", bus="usb.0")
        else:
            address = f"{SLOTS['tablet']}.{number}"
            yield device("virtio-tablet-pci", id=f"tablet{number}", bus="pcie.0", addr=address, multifunction=True)
    yield from _sound(spec)


def _screen(spec: QemuSpec) -> Iterator[Words]:
    if not spec.screen:
        return
    if spec.video == "ramfb":
        yield device("ramfb", id="video")
    else:
        yield device(_VIDEO[spec.video], id="video", bus="pcie.0", addr=SLOTS["video"])
    yield "-vnc", f"unix:{escaped(spec.sockets.screen)}"


def _sound(spec: QemuSpec) -> Iterator[Words]:
    if spec.sound is None:
        return
    yield "-audiodev", "none,id=sound"
    if spec.sound == "ac97":
        yield device("AC97", bus="pcie.0", addr=SLOTS["ac97"], audiodev="sound")
    else:
        yield device("ich9-intel-hda", id="hda", bus="pcie.0", addr=SLOTS["ich9"])
        yield device("hda-duplex", bus="hda.0", audiodev="sound")
