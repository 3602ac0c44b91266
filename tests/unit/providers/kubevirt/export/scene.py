"""The controller of exports on a small API server, with disks that are there, and the proxy on loopback."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import TestServer

from pilvi.api import JsonObject
from pilvi.engine.serve.export import make_application
from pilvi.lib.clock import format_time
from pilvi.providers.claims import VOLUME, volume_file
from pilvi.providers.kubevirt.export.controller import export_controller
from pilvi.providers.kubevirt.export.delivery import Delivery
from pilvi.providers.kubevirt.export.kinds import CLAIMS, EXPORTS, VOLUMES
from tests.fake_api import FakeApi
from tests.unit.providers.stage import Stage, on_stage

MIB = 1 << 20
TOKEN = "let-me-in"
SOURCES = {"PersistentVolumeClaim": None, "VirtualMachine": "kubevirt.io", "VirtualMachineSnapshot": "snapshot.kubevirt.io"}


def make_export(kind: str = "PersistentVolumeClaim", of: str = "disk", **more: Any) -> JsonObject:
    source = {"kind": kind, "name": of, **({"apiGroup": group} if (group := SOURCES[kind]) else {})}
    metadata = {"name": "out", "namespace": "team", "uid": "export-uid", "creationTimestamp": format_time(), "generation": 1}
    return {"metadata": metadata, "spec": {"source": source, "tokenSecretRef": "key", **more}}


def make_secret(token: str = TOKEN) -> JsonObject:
    return {"metadata": {"name": "key", "namespace": "team"}, "data": {"token": base64.b64encode(token.encode()).decode()}}


def make_vm(*volumes: JsonObject, **spec: Any) -> JsonObject:
    template = {"spec": {"domain": {"memory": {"guest": "64Mi"}}, "volumes": list(volumes)}}
    spec = {"runStrategy": "Halted", **spec, "template": template}
    return {
        "metadata": {"name": "web", "namespace": "team", "uid": "vm-uid"},
        "spec": {"runStrategy": "Halted", **spec, "template": template},
    }


def pod_of(claim: str, phase: str = "Running") -> JsonObject:
    volumes = [{"name": "x", "persistentVolumeClaim": {"claimName": claim}}]
    return {"metadata": {"name": "virt-launcher-x", "namespace": "team"}, "spec": {"volumes": volumes}, "status": {"phase": phase}}


def add_disk(stage: Stage, name: str = "disk", data: bytes = b"data", size_bytes: int = 4 * MIB, **metadata: Any) -> Path:
    """A bound claim with its volume and its file."""
    spec: JsonObject = {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block", "volumeName": f"pv-{name}", "storageClassName": "local"}
    spec["resources"] = {"requests": {"storage": str(size_bytes)}}
    claim = stage.put(CLAIMS, {"metadata": {"name": name, "namespace": "team", **metadata}, "spec": spec, "status": {"phase": "Bound"}})
    folder = f"pvc-{claim['metadata']['uid']}"
    file = volume_file(stage.platform.cloud, folder)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as disk:
        disk.truncate(size_bytes)
        disk.write(data)
    reference = {"namespace": "team", "name": name, "uid": claim["metadata"]["uid"]}
    volume = {
        "metadata": {"name": f"pv-{name}", "annotations": {VOLUME: folder}},
        "spec": {"capacity": {"storage": str(size_bytes)}, "claimRef": reference},
    }
    stage.put(VOLUMES, volume)
    return file


@dataclass
class Proxy:
    """The export proxy, asked with the token."""

    session: aiohttp.ClientSession
    url: str
    delivery: Delivery

    def get(self, path: str, method: str = "GET", **headers: str | None) -> Any:
        sent = {"x-kubevirt-export-token": TOKEN, **headers}
        url = f"{self.url}/api/export.kubevirt.io/v1beta1/namespaces/team/virtualmachineexports/out/{path}"
        return self.session.request(method, url, headers={name: value for name, value in sent.items() if value is not None})


@asynccontextmanager
async def scene(api: FakeApi, home: Path, *, stall_s: float = 5.0) -> AsyncIterator[tuple[Stage, Proxy]]:
    async with on_stage(api, home, lambda platform: [export_controller(platform)]) as stage:
        delivery = Delivery(stage.platform, stall_s=stall_s)
        async with TestServer(make_application(delivery)) as server, aiohttp.ClientSession() as session:
            yield stage, Proxy(session, str(server.make_url("")).rstrip("/"), delivery)


def status(stage: Stage) -> JsonObject:
    return stage.get(EXPORTS, "out", "team").get("status") or {}


def told(stage: Stage, type: str = "Ready") -> tuple[str, str, str]:
    found = next((each for each in status(stage).get("conditions") or () if each["type"] == type), None)
    return ("", "", "") if found is None else (found["status"], found["reason"], found["message"])


async def until_ready(stage: Stage) -> JsonObject:
    await stage.until(lambda: status(stage).get("phase") == "Ready", "the export to be ready")
    return status(stage)
