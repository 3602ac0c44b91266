"""Uploads an image as `virtctl image-upload dv NAME` does it: the same objects, requests and headers, in the same order.

What is sent is what virtctl of release 1.9 sends (pkg/virtctl/imageupload).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import msgspec

from pilvi.api import JsonObject, Key
from pilvi.api.cdi import CDIConfig, DataVolume
from pilvi.kube import Client, Kubeconfig

__all__ = ["image_upload"]

READY_S = 60.0


async def image_upload(kubeconfig: Kubeconfig, namespace: str, name: str, size: str, image: Path) -> str:
    """Upload; returns the path that the proxy took it at. Raises aiohttp.ClientResponseError, TimeoutError."""
    async with Client.open(kubeconfig) as client, asyncio.timeout(READY_S):
        storage = {"resources": {"requests": {"storage": size}}}
        spec: JsonObject = {"source": {"upload": {}}, "contentType": "kubevirt", "storage": storage}
        key = Key(namespace, name)
        await client.create(DataVolume.RESOURCE, DataVolume.RESOURCE.new(key, spec=spec))
        await _phase(client, key, "UploadReady")
        config = await client.get(CDIConfig.RESOURCE, Key("", "config"))
        token = await _token(client, key)
        path = await _send(config["status"]["uploadProxyURL"], token, image)
        await _phase(client, key, "Succeeded")
    return path


async def _phase(client: Client, key: Key, phase: str) -> None:
    while True:
        if ((await client.get(DataVolume.RESOURCE, key)).get("status") or {}).get("phase") == phase:
            return
        await asyncio.sleep(0.5)


async def _token(client: Client, key: Key) -> str:
    request = {
        "apiVersion": "upload.cdi.kubevirt.io/v1beta1",
        "kind": "UploadTokenRequest",
        "metadata": {"name": "token-for-virtctl", "namespace": key.namespace},
        "spec": {"pvcName": key.name},
    }
    path = f"/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/{key.namespace}/uploadtokenrequests"
    answer = await client.raw("POST", path, body=request)
    return str(msgspec.json.decode(answer)["status"]["token"])


async def _send(proxy: str, token: str, image: Path) -> str:
    """`--insecure`: the certificate is not looked at. The asynchronous path is tried first, by HEAD."""
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False), headers=headers) as session:
        async with session.head(f"{proxy}/v1beta1/upload-async") as answer:
            path = "/v1beta1/upload-async" if answer.status == 200 else "/v1beta1/upload"
        with image.open("rb") as file:
            more = {"Content-Type": "application/octet-stream", "Content-Length": str(image.stat().st_size)}
            async with session.post(f"{proxy}{path}", data=file, headers=more, raise_for_status=True):
                return path
