"""The kernel that an instance boots without a boot loader, as `firmware.kernelBoot` names it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError

__all__ = ["KernelImage", "find_kernel"]

_PATH = "spec.domain.firmware.kernelBoot"


@dataclass(frozen=True)
class KernelImage:
    """An image with a kernel: its reference, how it is pulled, the paths in it of the kernel and, if there is one, of its initrd."""

    image: str
    paths: tuple[str, ...]
    arguments: str = ""
    pull_policy: str | None = None
    pull_secret: str | None = None


def find_kernel(spec: JsonObject) -> KernelImage | None:
    """The kernel of a VirtualMachineInstanceSpec; None when it boots from its disks. Raises UserError for what says nothing to boot."""
    boot = ((spec.get("domain") or {}).get("firmware") or {}).get("kernelBoot")
    if boot is None:
        return None
    container = boot.get("container")
    if not container or not container.get("image"):
        raise UserError(f"{_PATH} names no image", hint="write container.image and container.kernelPath, or remove kernelBoot")
    if not container.get("kernelPath"):
        raise UserError(f"{_PATH}.container names no kernel", hint="write kernelPath, for example /boot/vmlinuz")
    return KernelImage(
        container["image"],
        tuple(path for path in (container["kernelPath"], container.get("initrdPath")) if path),
        boot.get("kernelArgs") or "",
        container.get("imagePullPolicy"),
        container.get("imagePullSecret"),
    )
