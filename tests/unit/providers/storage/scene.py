"""The storage controllers on a small API server, with a stand-in for what kube-controller-manager does with claims and volumes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pilvi.api import JsonObject, Key, Resource
from pilvi.providers import storage
from pilvi.providers.claims import PROVISIONER, annotations_of, claim_volume, volume_file
from pilvi.providers.storage.kinds import (
    CLAIMS,
    CLASSES,
    CONTENTS,
    PROVISIONER_OF_CLAIM,
    SNAPSHOT_CLASSES,
    SNAPSHOTS,
    VOLUMES,
)
from tests.fake_api import FakeApi
from tests.unit.providers.stage import Stage, make_cloud, on_stage

MIB = 1 << 20
IN_USE = "kubernetes.io/pv-protection"


def make_class(name: str = "local", **more: Any) -> JsonObject:
    return {
        "metadata": {"name": name, **more.pop("metadata", {})},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
        "allowVolumeExpansion": True,
        **more,
    }


def make_claim(name: str = "disk", size: str = "16Mi", *, annotations: dict[str, str] | None = None, **spec: Any) -> JsonObject:
    told = {PROVISIONER_OF_CLAIM: PROVISIONER, **(annotations or {})}
    return {
        "metadata": {"name": name, "namespace": "team", "annotations": told},
        "spec": {
            "storageClassName": "local",
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": size}},
            **spec,
        },
        "status": {"phase": "Pending"},
    }


def make_snapshot(name: str = "snap", claim: str = "disk", **spec: Any) -> JsonObject:
    return {"metadata": {"name": name, "namespace": "team"}, "spec": {"source": {"persistentVolumeClaimName": claim}, **spec}}


class Binder:
    """Binds claims to volumes that name them, protects bound volumes, and releases those whose claim is gone."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            for path, obj in [*self.api.objects.items()]:
                if obj["kind"] == VOLUMES.kind and self.api.objects.get(path) is obj:
                    self.serve(path, obj)

    def serve(self, path: str, volume: JsonObject) -> None:
        reference = volume["spec"]["claimRef"]
        place = CLAIMS.object_path(Key(reference["namespace"], reference["name"]))
        claim = self.api.objects.get(place)
        phase = (volume.get("status") or {}).get("phase")
        if claim is None or claim["metadata"]["uid"] != reference["uid"]:
            held = [entry for entry in volume["metadata"].get("finalizers") or [] if entry != IN_USE]
            if phase != "Released" or held != volume["metadata"].get("finalizers"):
                metadata = {**volume["metadata"], "finalizers": held}
                self.api.put(path, {**volume, "metadata": metadata, "status": {"phase": "Released"}})
        elif phase != "Bound":
            held = [*(volume["metadata"].get("finalizers") or []), IN_USE]
            self.api.put(path, {**volume, "metadata": {**volume["metadata"], "finalizers": held}, "status": {"phase": "Bound"}})
            status = {**(claim.get("status") or {}), "phase": "Bound", "capacity": volume["spec"]["capacity"]}
            spec = {**claim["spec"], "volumeName": volume["metadata"]["name"]}
            self.api.put(place, {**claim, "spec": spec, "status": status})


class Store:
    """What a test asks of the claims and files of one stage."""

    def __init__(self, stage: Stage, home: Path) -> None:
        self.stage, self.home, self.cloud = stage, home, make_cloud(home)

    def claim(self, name: str = "disk") -> JsonObject:
        return self.stage.get(CLAIMS, name, "team")

    def is_bound(self, name: str = "disk") -> bool:
        return bool((self.claim(name).get("status") or {}).get("phase") == "Bound")

    def volume(self, name: str = "disk") -> JsonObject:
        return self.stage.get(VOLUMES, claim_volume(self.claim(name)))

    def file(self, name: str = "disk") -> Path:
        return volume_file(self.cloud, claim_volume(self.claim(name)))

    def told(self, name: str = "disk", type: str = "pilvi.dev/Provisioned") -> JsonObject:
        conditions = (self.claim(name).get("status") or {}).get("conditions") or []
        return next((entry for entry in conditions if entry["type"] == type), {})

    def ready(self, name: str = "snap") -> bool:
        return bool((self.stage.get(SNAPSHOTS, name, "team").get("status") or {}).get("readyToUse"))

    def folders(self) -> set[str]:
        place = self.home / "volumes"
        return {path.name for path in place.iterdir() if path.name[0] != "."} if place.exists() else set()

    def events(self) -> set[str]:
        return {obj["reason"] for path, obj in self.stage.api.objects.items() if "/events/" in path}

    def change(self, resource: Resource, name: str, namespace: str, **parts: Any) -> None:
        obj = self.stage.get(resource, name, namespace)
        self.stage.api.put(resource.object_path(Key(namespace, name)), {**obj, **parts})

    def annotate(self, name: str, **annotations: str) -> None:
        claim = self.claim(name)
        told = {**annotations_of(claim), **{key.replace("__", "/"): value for key, value in annotations.items()}}
        self.change(CLAIMS, name, "team", metadata={**claim["metadata"], "annotations": told})

    async def delete(self, resource: Resource, name: str, namespace: str = "") -> None:
        await self.stage.platform.client.delete(resource, Key(namespace, name))


def put(api: FakeApi, resource: Resource, obj: JsonObject) -> JsonObject:
    key = Key(obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
    return api.put(resource.object_path(key), {"apiVersion": resource.api_version, "kind": resource.kind, **obj})


@asynccontextmanager
async def scene(api: FakeApi, home: Path) -> AsyncIterator[Store]:
    """The controllers, running, with the classes `local`."""
    for resource, obj in (
        (CLASSES, make_class()),
        (
            SNAPSHOT_CLASSES,
            {
                "metadata": {"name": "local", "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"}},
                "driver": PROVISIONER,
                "deletionPolicy": "Delete",
            },
        ),
    ):
        if resource.object_path(Key("", obj["metadata"]["name"])) not in api.objects:
            put(api, resource, obj)
    binder = asyncio.create_task(Binder(api).run())
    try:
        async with on_stage(api, home, storage.controllers) as stage:
            yield Store(stage, home)
    finally:
        binder.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await binder


__all__ = [
    "CLAIMS",
    "CLASSES",
    "CONTENTS",
    "MIB",
    "SNAPSHOTS",
    "SNAPSHOT_CLASSES",
    "VOLUMES",
    "Store",
    "make_claim",
    "make_class",
    "make_snapshot",
    "put",
    "scene",
]
