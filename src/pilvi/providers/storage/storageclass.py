"""Says on each storage class of ours, in annotations, what its volumes can do. The file system of the home decides, so it is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.host.disks import find_capabilities
from pilvi.lib.disk import on_disk
from pilvi.providers.claims import PROVISIONER, annotations_of
from pilvi.providers.storage import files
from pilvi.providers.storage.kinds import CLASSES
from pilvi.runtime import Controller, Done, Result

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["abilities", "class_controller"]


def abilities(storage_class: JsonObject, *, shares_blocks: bool) -> dict[str, str]:
    """The annotations of a class of ours. Pure.

    Machines of every virtual host reach the file, so a volume may have more than one at a time.
    """
    return {
        "pilvi.dev/clone": "true",
        "pilvi.dev/snapshot": "true",
        "pilvi.dev/share": "true",
        "pilvi.dev/expand": str(bool(storage_class.get("allowVolumeExpansion"))).lower(),
        "pilvi.dev/copy-method": "reflink" if shares_blocks else "copy",
    }


def class_controller(platform: Platform) -> Controller:
    """The controller of our storage classes."""
    client, classes = platform.client, platform.informers.get(CLASSES)

    async def reconcile(key: Key) -> Result:
        found = classes.get(key)
        if found is None or found.get("provisioner") != PROVISIONER:
            return Done()
        await on_disk(files.make_folder, platform.cloud.home / "volumes")
        able = await find_capabilities(platform.cloud.home / "volumes")
        told = abilities(found, shares_blocks=able.reflink)
        held = annotations_of(found)
        changed = {name: value for name, value in told.items() if held.get(name) != value}
        if changed:
            await client.patch(CLASSES, key, {"metadata": {"uid": found["metadata"]["uid"], "annotations": changed}})
        return Done()

    return Controller("storageclass", CLASSES, reconcile, concurrency=1)
