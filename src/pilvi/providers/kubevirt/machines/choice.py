"""Which backend runs a machine, and from which image. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pilvi.api.resource import JsonObject
from pilvi.node import parse_node_image
from pilvi.providers.attachments import find_attachments

__all__ = ["MACHINE", "Refusal", "choose_backend", "find_boot_image"]

MACHINE = "pilvi.dev/machine"
"""Annotation on a VirtualMachineInstance: `qemu` or `sandbox`."""


@dataclass(frozen=True)
class Refusal:
    """Why no machine can be made of an instance: a reason as KubeVirt's, and a message with the next step."""

    reason: str
    message: str


def find_boot_image(spec: JsonObject) -> str | None:
    """The container disk that the machine boots from: of the disk with the lowest bootOrder, else of the first disk; None without one."""
    volumes = {volume["name"]: volume for volume in spec.get("volumes") or []}
    disks = (((spec.get("domain") or {}).get("devices")) or {}).get("disks") or []
    ordered = sorted(disks, key=lambda disk: disk.get("bootOrder") or 1 << 30)
    named = [volumes[disk["name"]] for disk in ordered if disk.get("name") in volumes] or list(volumes.values())
    images = [str(volume["containerDisk"]["image"]) for volume in named if volume.get("containerDisk")]
    return images[0] if images else None


def choose_backend(vmi: JsonObject, default: str, running: str | None = None) -> str | Refusal:
    """The name of the backend for `vmi`, or why there is none.

    `running` is the backend that runs the machine already: that choice stands. Else the annotation decides, else `default`, the
    cloud's (`auto`, `qemu`, `sandbox`). `auto` runs node images as sandboxes and everything else under QEMU.
    """
    asked = (vmi["metadata"].get("annotations") or {}).get(MACHINE)
    wanted = running or asked or default
    if wanted not in ("auto", "qemu", "sandbox"):
        return Refusal("InvalidMachine", f"annotation {MACHINE} is {wanted!r}; write sandbox or qemu, or remove it")
    image = find_boot_image(vmi["spec"])
    networks = len(find_attachments(vmi["spec"], vmi["metadata"]["namespace"]))
    is_node = image is not None and parse_node_image(image) is not None
    if wanted == "auto":
        wanted = "sandbox" if is_node else "qemu"
    if wanted == "sandbox" and not is_node:
        return Refusal(
            "InvalidMachine",
            f"a sandbox runs node images only, and the machine boots from {image or 'no container disk'}; "
            + (f"set annotation {MACHINE} to qemu" if running or asked is None else f"remove annotation {MACHINE}, or set it to qemu"),
        )
    if wanted == "sandbox" and networks != 1:
        return Refusal("InvalidMachine", f"a sandbox is in one network, and this machine is in {networks}; write one interface")
    return wanted
