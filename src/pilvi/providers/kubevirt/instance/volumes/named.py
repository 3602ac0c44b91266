"""Which images an instance names, and with whose credentials they are pulled. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError
from pilvi.images import Reference, parse_reference

__all__ = ["image_references", "pull_secrets"]


def image_references(spec: JsonObject) -> Iterator[Reference]:
    """The images of container disks and of kernelBoot in a VirtualMachineInstanceSpec. What is no image is left out."""
    for source in _sources(spec):
        with contextlib.suppress(UserError):  # that is said by the instance's own pass
            yield parse_reference(source["image"])


def pull_secrets(spec: JsonObject) -> set[str]:
    """The Secrets that these images name."""
    return {source["imagePullSecret"] for source in _sources(spec) if source.get("imagePullSecret")}


def _sources(spec: JsonObject) -> Iterator[JsonObject]:
    for volume in spec.get("volumes") or []:
        if volume.get("containerDisk"):
            yield volume["containerDisk"]
    boot = ((spec.get("domain") or {}).get("firmware") or {}).get("kernelBoot") or {}
    if (boot.get("container") or {}).get("image"):
        yield boot["container"]
