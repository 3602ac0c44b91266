"""Exports as `virtctl vmexport create|download|delete` does it: the same objects, requests and headers, in the same order.

What is sent is what virtctl of release 1.9 sends (pkg/virtctl/vmexport).
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import ssl
import string
import zlib
from pathlib import Path

import aiohttp

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import SECRETS
from pilvi.api.export import VirtualMachineExport
from pilvi.errors import NotFound
from pilvi.kube import Client
from pilvi.runtime import owner_reference

__all__ = ["create", "delete", "download", "download_manifest", "until_ready"]

EXPORTS = VirtualMachineExport.RESOURCE
READY_S = 120.0
GROUPS = {"PersistentVolumeClaim": "", "VirtualMachine": "kubevirt.io", "VirtualMachineSnapshot": "snapshot.kubevirt.io"}
LETTERS = string.ascii_letters + string.digits


async def create(client: Client, key: Key, kind: str, name: str, *, ttl: str | None = None) -> None:
    """`vmexport create NAME --vm|--snapshot|--pvc=NAME`: the export first, which names a Secret, then the Secret."""
    spec: JsonObject = {"tokenSecretRef": f"secret-{key.name}", "source": {"apiGroup": GROUPS[kind], "kind": kind, "name": name}}
    if ttl is not None:
        spec["ttlDuration"] = ttl
    export = await client.create(EXPORTS, EXPORTS.new(key, spec=spec))
    token = "".join(secrets.choice(LETTERS) for _ in range(20))
    owner = owner_reference(export, block_deletion=False)
    secret = SECRETS.new(Key(key.namespace, f"secret-{key.name}"), metadata={"ownerReferences": [owner]}, type="Opaque")
    await client.create(SECRETS, {**secret, "data": {"token": base64.b64encode(token.encode()).decode()}})


async def until_ready(client: Client, key: Key) -> JsonObject:
    """Wait for the export as `vmexport download` does: for its phase, then for the external links. Raises TimeoutError."""
    async with asyncio.timeout(READY_S):
        while True:
            export = await client.get(EXPORTS, key)
            status = export.get("status") or {}
            if status.get("phase") == "Ready" and (status.get("links") or {}).get("external") is not None:
                return export
            await asyncio.sleep(0.2)


async def download(client: Client, key: Key, file: Path, *, volume: str = "", raw: bool = False) -> int:
    """`vmexport download NAME --output=FILE [--volume=NAME] [--format=raw]`; returns the bytes that came over the wire.

    The compressed form is taken, and unpacked on the way for `raw`. Raises aiohttp.ClientError.
    """
    export = await until_ready(client, key)
    volumes = export["status"]["links"]["external"]["volumes"]
    chosen = next(each for each in volumes if len(volumes) == 1 or each["name"] == volume)
    url = next(each["url"] for each in chosen["formats"] if each["format"] == "gzip")
    unpacker, received = zlib.decompressobj(wbits=31), 0
    async with _session(export) as session, session.get(url, headers=await _headers(client, export), raise_for_status=True) as answer:
        with file.open("wb") as output:
            async for chunk in answer.content.iter_any():
                received += len(chunk)
                output.write(unpacker.decompress(chunk) if raw else chunk)
    assert unpacker.eof or not raw, "the stream ended early"
    return received


async def download_manifest(client: Client, key: Key, *, include_secret: bool = False) -> str:
    """`vmexport download NAME --manifest [--include-secret]`: YAML."""
    export = await until_ready(client, key)
    urls = {each["type"]: each["url"] for each in export["status"]["links"]["external"]["manifests"]}
    headers = {"Accept": "application/yaml", **await _headers(client, export)}
    async with _session(export) as session:
        texts = []
        for kind in ("all", "auth-header-secret") if include_secret else ("all",):
            async with session.get(urls[kind], headers=headers, raise_for_status=True) as answer:
                texts.append(await answer.text())
        return "".join(texts)


async def delete(client: Client, key: Key) -> bool:
    """`vmexport delete NAME`; returns whether there was one."""
    try:
        await client.delete(EXPORTS, key)
    except NotFound:
        return False
    return True


def _session(export: JsonObject) -> aiohttp.ClientSession:
    """Only the authority that the export names is trusted."""
    context = ssl.create_default_context(cadata=export["status"]["links"]["external"]["cert"])
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), auto_decompress=False)


async def _headers(client: Client, export: JsonObject) -> dict[str, str]:
    secret = await client.get(SECRETS, Key(export["metadata"]["namespace"], export["status"]["tokenSecretRef"]))
    return {"x-kubevirt-export-token": base64.b64decode(secret["data"]["token"]).decode()}
