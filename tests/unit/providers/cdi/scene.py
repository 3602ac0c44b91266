"""CDI's controllers on a small API server, with a stand-in for storage that keeps the border of `providers/claims.py`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pilvi.api import JsonObject, Key
from pilvi.lib.quantity import quantity_bytes
from pilvi.providers import cdi
from pilvi.providers.cdi.kinds import CLAIMS, CLASSES, DATA_VOLUMES, VOLUMES
from pilvi.providers.claims import POPULATED, PROVISIONER, VOLUME, annotations_of, claim_volume, is_populated, volume_file
from tests.fake_api import FakeApi
from tests.unit.providers.stage import Stage, make_cloud, on_stage

MIB = 1 << 20


def make_class(name: str = "local", **more: Any) -> JsonObject:
    annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if name == "local" else {}
    return {"metadata": {"name": name, "annotations": annotations}, "provisioner": PROVISIONER, "volumeBindingMode": "Immediate", **more}


def make_data_volume(name: str = "disk", size: str | None = "16Mi", **spec: Any) -> JsonObject:
    storage: JsonObject = {"resources": {"requests": {"storage": size}}} if size else {}
    filled = {"storage": storage, **spec}
    return {"metadata": {"name": name, "namespace": "team"}, "spec": filled}


class Storage:
    """Makes files for claims, volumes for claims that are populated, and binds them. `paused` stops it; it forgets nothing."""

    def __init__(self, api: FakeApi, home: Path) -> None:
        self.api, self.cloud = api, make_cloud(home)
        self.paused = False

    def file(self, claim: JsonObject) -> Path:
        return volume_file(self.cloud, claim_volume(claim))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            if not self.paused:
                for path, obj in [*self.api.objects.items()]:
                    if obj["kind"] == CLAIMS.kind and not obj["metadata"].get("deletionTimestamp"):
                        self.serve(path, obj)

    def serve(self, path: str, claim: JsonObject) -> None:
        size, volume = claim["spec"]["resources"]["requests"]["storage"], f"pvc-{claim['metadata']['uid']}"
        if not self.file(claim).exists():
            self.file(claim).parent.mkdir(parents=True)
            self.file(claim).touch()
            os.truncate(self.file(claim), quantity_bytes(size))
        if not is_populated(claim):
            if VOLUME not in annotations_of(claim):
                self.api.put(path, with_annotations(claim, {VOLUME: claim_volume(claim)}))
        elif not claim["spec"].get("volumeName"):
            reference = {"uid": claim["metadata"]["uid"], "name": claim["metadata"]["name"], "namespace": claim["metadata"]["namespace"]}
            spec = {"capacity": {"storage": size}, "claimRef": reference}
            held = {"name": volume, "annotations": {VOLUME: claim_volume(claim)}}
            put(self.api, VOLUMES, {"metadata": held, "spec": spec})
            self.api.put(path, {**claim, "spec": {**claim["spec"], "volumeName": volume}, "status": {"phase": "Bound"}})


def put(api: FakeApi, resource: Any, obj: JsonObject) -> JsonObject:
    key = Key(obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
    return api.put(resource.object_path(key), {"apiVersion": resource.api_version, "kind": resource.kind, **obj})


def with_annotations(obj: JsonObject, annotations: dict[str, str]) -> JsonObject:
    return {**obj, "metadata": {**obj["metadata"], "annotations": {**annotations_of(obj), **annotations}}}


@asynccontextmanager
async def scene(api: FakeApi, home: Path, *, classes: bool = True) -> AsyncIterator[tuple[Stage, Storage]]:
    if classes:
        put(api, CLASSES, make_class())
    storage = Storage(api, home)
    task = asyncio.create_task(storage.run())
    try:
        async with on_stage(api, home, cdi.controllers) as stage:
            yield stage, storage
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def phase(stage: Stage, name: str = "disk") -> str:
    found = stage.find(DATA_VOLUMES, name, "team") or {}
    return str((found.get("status") or {}).get("phase"))


def told(stage: Stage, type: str, name: str = "disk") -> JsonObject:
    status = stage.get(DATA_VOLUMES, name, "team").get("status") or {}
    return next((entry for entry in status.get("conditions") or [] if entry["type"] == type), {})


def events(api: FakeApi) -> set[str]:
    return {obj["reason"] for path, obj in api.objects.items() if "/events/" in path}


def content(stage: Stage, storage: Storage, name: str = "disk") -> bytes:
    return storage.file(stage.get(CLAIMS, name, "team")).read_bytes()


__all__ = [
    "MIB",
    "POPULATED",
    "Storage",
    "content",
    "events",
    "make_class",
    "make_data_volume",
    "phase",
    "put",
    "scene",
    "told",
    "with_annotations",
]
