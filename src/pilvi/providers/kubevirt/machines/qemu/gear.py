"""Watchdog, tablets, screen and sound of a machine. Pure."""

from __future__ import annotations

from typing import Any, Literal

from pilvi.api.resource import JsonObject
from pilvi.host.qemu.spec import Watchdog
from pilvi.providers.kubevirt.machines.qemu.choices import choose

__all__ = ["plan_sound", "plan_tablets", "plan_video", "plan_watchdog"]

_DEVICES = "spec.domain.devices"


def plan_watchdog(devices: JsonObject) -> Watchdog | None:
    """A watchdog. Raises UserError for an action that it cannot do."""
    watchdog = devices.get("watchdog")
    if not watchdog:
        return None
    asked = (watchdog.get("i6300esb") or {}).get("action")
    return Watchdog(action=choose(asked, ("reset", "shutdown", "poweroff"), f"{_DEVICES}.watchdog.i6300esb.action", "reset"))


def plan_tablets(devices: JsonObject) -> tuple[Literal["usb", "virtio"], ...]:
    """Tablets, by their bus. Raises UserError for other inputs."""
    tablets: list[Literal["usb", "virtio"]] = []
    for device in devices.get("inputs") or []:
        path = f"{_DEVICES}.inputs[{device.get('name')}]"
        choose(device.get("type"), ("tablet",), f"{path}.type")
        tablets.append(choose(device.get("bus"), ("usb", "virtio"), f"{path}.bus", "usb"))
    if devices.get("autoattachInputDevice") and not tablets:
        tablets.append("usb")
    return tuple(tablets)


def plan_video(devices: JsonObject) -> Any:
    """The screen's card. Raises UserError for one that QEMU has not."""
    asked = (devices.get("video") or {}).get("type")
    return choose(asked, ("vga", "virtio", "bochs", "cirrus", "ramfb"), f"{_DEVICES}.video.type", "vga")


def plan_sound(devices: JsonObject) -> Any:
    """The sound card, None without one. Raises UserError."""
    sound = devices.get("sound")
    return choose(sound.get("model"), ("ich9", "ac97"), f"{_DEVICES}.sound.model", "ich9") if sound else None
