"""Which backend runs a machine, and from which image. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pilvi.api.resource import JsonObject
from pilvi.node import parse_node_image

__all__ = ["MACHINE", "Refusal", "choose_backend", "get_boot_image"]

MACHINE = "pilvi.dev/machine"
"""Annotation on a VirtualMachineInstance: `qemu` or `sandbox`."""


@dataclass(frozen=True)
class Refusal:
    """Why no machine can be made of an instance: a reason as KubeVirt's, and a message with the next step."""

    reason: str
    message: str


def get_boot_image(spec: JsonObject) -> str | None:
    """The container disk that the machine boots from: of the disk with the lowest bootOrder, else of the first disk; None without one."""
    volumes = {volume["name"]: volume for volume in spec.get("volumes") or []}
    disks = (((spec.get("domain") or {}).get("devices")) or {}).get("disks") or []
    ordered = sorted(disks, key=lambda disk: disk.get("bootOrder") or 1 << 30)
    named = [volumes[disk["name"]] for disk in ordered if disk.get("name") in volumes] or list(volumes.values())
    images = [str(volume["containerDisk"]["image"]) for volume in named if volume.get("containerDisk")]
    return images[0] if images else None


def choose_backend(vmi: JsonObject, default: str, running: str | None = None) -> tuple[str, str] | Refusal:
    """Backend and Kubernetes version of the node image for `vmi`, or why there is none.

    `running` is the backend that runs the machine already: that choice stands. Else the annotation decides, else `default`, the
    cloud's (`auto`, `qemu`, `sandbox`). Only node images can be run so far.
    """
    wanted = running or (vmi["metadata"].get("annotations") or {}).get(MACHINE) or default
    if wanted not in ("auto", "qemu", "sandbox"):
        return Refusal("InvalidMachine", f"annotation {MACHINE} is {wanted!r}; write sandbox or qemu, or remove it")
    image = get_boot_image(vmi["spec"])
    if image is None:
        return Refusal(
            "NoBootDisk",
            "the machine has no containerDisk volume to boot from; add one with a node image, for example pilvi.dev/node:<version>",
        )
    version = parse_node_image(image)
    if version is None:
        return Refusal(
            "ErrImagePull",
            f"container disk {image} is not a node image of this cloud, and container disks from registries come with QEMU support, "
            "which is not there yet; use pilvi.dev/node:<version>",
        )
    if wanted == "qemu":
        return Refusal(
            "BackendMissing",
            f"the machine asks for qemu, which is not there yet; remove annotation {MACHINE} or set it to sandbox",
        )
    return "sandbox", version
