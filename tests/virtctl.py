"""Speaks to an API server as KubeVirt's virtctl does: the same paths, query parameters, bodies and sub-protocol.

What is sent is what kubevirt.io/client-go of release 1.9 sends (kubevirt/typed/core/v1: *_expansion.go, async.go, websocket.go), also
where that looks odd: an option that is not set is left out, and so is a false one.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from pilvi.kube import Kubeconfig

GROUP = "/apis/subresources.kubevirt.io/v1"
PROTOCOL = "plain.kubevirt.io"
GOODBYE_S = 0.1


class VirtctlError(Exception):
    """What virtctl prints: the message of the Status, or the body."""

    def __init__(self, code: int, body: str) -> None:
        try:
            self.status: dict[str, Any] = json.loads(body)
        except ValueError:
            self.status = {"message": body}
        super().__init__(self.status.get("message", body))
        self.code = code


@dataclass
class Virtctl:
    """A user with a kubeconfig. Open with `connect`."""

    session: aiohttp.ClientSession
    server: str
    namespace: str
    headers: Mapping[str, str]

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        kubeconfig: Kubeconfig,
        namespace: str = "default",
        *,
        headers: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> AsyncIterator[Self]:
        token = kubeconfig.find_token()
        sent = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        tls = context or kubeconfig.ssl_context()
        connector = aiohttp.TCPConnector(ssl=tls if tls is not None else True)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield cls(session, kubeconfig.server, namespace, sent)
        # aiohttp does not wait until TLS has said goodbye, and a loop that ends meanwhile leaves the connection open.
        await asyncio.sleep(GOODBYE_S)

    # virtctl start|stop|restart|migrate NAME

    async def start(self, name: str, *, paused: bool = False, dry_run: bool = False) -> None:
        await self._put("virtualmachines", name, "start", {**({"paused": True} if paused else {}), **_dry(dry_run)})

    async def stop(self, name: str, *, grace_period: int | None = None, dry_run: bool = False) -> None:
        await self._put("virtualmachines", name, "stop", {**_set(gracePeriod=grace_period), **_dry(dry_run)})

    async def restart(self, name: str, *, grace_period: int | None = None, dry_run: bool = False) -> None:
        await self._put("virtualmachines", name, "restart", {**_set(gracePeriodSeconds=grace_period), **_dry(dry_run)})

    async def migrate(self, name: str, *, dry_run: bool = False) -> None:
        await self._put("virtualmachines", name, "migrate", _dry(dry_run))

    async def migrate_cancel(self, name: str) -> None:
        """Deletes the machine's migration that has not ended, as it is found by its label."""
        path = f"/apis/kubevirt.io/v1/namespaces/{self.namespace}/virtualmachineinstancemigrations"
        found = json.loads(await self._send("GET", f"{path}?labelSelector=kubevirt.io%2Fvmi-name%3D%3D{name}"))
        for migration in found["items"]:
            if migration.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
                await self._send("DELETE", f"{path}/{migration['metadata']['name']}")
                return
        raise LookupError(f"no migration of {name} is under way")

    async def evacuate_cancel(self, name: str, *, kind: str = "vmi", node: str = "", dry_run: bool = False) -> None:
        """`virtctl evacuate-cancel KIND NAME`."""
        resource = {"vmi": "virtualmachineinstances", "vm": "virtualmachines"}[kind]
        body = {**({"evacuationNodeName": node} if node else {}), **_dry(dry_run)}
        await self._put(resource, name, "evacuate/cancel", body)

    async def expand(self, name: str) -> dict[str, Any]:
        return await self._get_json("virtualmachines", name, "expand-spec")

    async def expand_file(self, vm: dict[str, Any]) -> dict[str, Any]:
        path = f"{GROUP}/namespaces/{self.namespace}/expand-vm-spec"
        return json.loads(await self._send("PUT", path, json.dumps(vm).encode()))  # type: ignore[no-any-return]

    # virtctl pause|unpause|reset|soft-reboot|addvolume|removevolume NAME

    async def pause(self, name: str, *, dry_run: bool = False) -> None:
        await self._put("virtualmachineinstances", name, "pause", _dry(dry_run))

    async def unpause(self, name: str, *, dry_run: bool = False) -> None:
        await self._put("virtualmachineinstances", name, "unpause", _dry(dry_run))

    async def reset(self, name: str) -> None:
        await self._put("virtualmachineinstances", name, "reset")

    async def soft_reboot(self, name: str) -> None:
        await self._put("virtualmachineinstances", name, "softreboot")

    async def freeze(self, name: str, unfreeze_timeout: str = "5m0s") -> None:
        await self._put("virtualmachineinstances", name, "freeze", {"unfreezeTimeout": unfreeze_timeout})

    async def unfreeze(self, name: str) -> None:
        await self._put("virtualmachineinstances", name, "unfreeze")

    async def add_volume(
        self, name: str, volume: str, *, persist: bool = False, bus: str = "scsi", claim: bool = False, dry_run: bool = False
    ) -> None:
        # virtctl looks whether there is a DataVolume of that name, and takes the claim if there is none.
        source = {"persistentVolumeClaim": {"claimName": volume}} if claim else {"dataVolume": {"name": volume}}
        body = {"name": volume, "disk": {"disk": {"bus": bus}, "serial": volume}, "volumeSource": source, **_dry(dry_run)}
        await self._put("virtualmachines" if persist else "virtualmachineinstances", name, "addvolume", body)

    async def remove_volume(self, name: str, volume: str, *, persist: bool = False, dry_run: bool = False) -> None:
        body = {"name": volume, **_dry(dry_run)}
        await self._put("virtualmachines" if persist else "virtualmachineinstances", name, "removevolume", body)

    # virtctl memory-dump get|remove NAME

    async def memory_dump(self, name: str, claim: str = "") -> None:
        await self._put("virtualmachines", name, "memorydump", {"claimName": claim, "phase": ""})

    async def remove_memory_dump(self, name: str) -> None:
        await self._put("virtualmachines", name, "removememorydump")

    # virtctl guestosinfo|userlist|fslist NAME, virtctl version

    async def guest_os_info(self, name: str) -> dict[str, Any]:
        return await self._get_json("virtualmachineinstances", name, "guestosinfo")

    async def user_list(self, name: str) -> dict[str, Any]:
        return await self._get_json("virtualmachineinstances", name, "userlist")

    async def fs_list(self, name: str) -> dict[str, Any]:
        return await self._get_json("virtualmachineinstances", name, "filesystemlist")

    async def version(self) -> dict[str, Any]:
        return json.loads(await self._send("GET", f"{GROUP}/version"))  # type: ignore[no-any-return]

    # virtctl console|vnc|port-forward|ssh NAME

    @asynccontextmanager
    async def console(self, name: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async with self._stream("virtualmachineinstances", name, "console") as stream:
            yield stream

    @asynccontextmanager
    async def vnc(self, name: str, *, preserve_session: bool = False) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        query = f"?preserveSession={'true' if preserve_session else 'false'}"
        async with self._stream("virtualmachineinstances", name, f"vnc{query}") as stream:
            yield stream

    async def screenshot(self, name: str, *, move_cursor: bool = False) -> bytes:
        path = self._path("virtualmachineinstances", name, f"vnc/screenshot?moveCursor={'true' if move_cursor else 'false'}")
        return await self._send("GET", path)

    @asynccontextmanager
    async def port_forward(
        self, name: str, port: int, protocol: str = "tcp", *, kind: str = "vmi"
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """`virtctl port-forward KIND/NAME PROTOCOL/PORT`; `virtctl ssh` does the same with port 22."""
        resource = {"vmi": "virtualmachineinstances", "vm": "virtualmachines"}[kind]
        async with self._stream(resource, name, "/".join(["portforward", str(port), *([protocol] if protocol else [])])) as stream:
            yield stream

    # How

    def _path(self, resource: str, name: str, subresource: str) -> str:
        return f"{GROUP}/namespaces/{self.namespace}/{resource}/{name}/{subresource}"

    async def _put(self, resource: str, name: str, subresource: str, body: dict[str, Any] | None = None) -> None:
        await self._send("PUT", self._path(resource, name, subresource), None if body is None else json.dumps(body).encode())

    async def _get_json(self, resource: str, name: str, subresource: str) -> dict[str, Any]:
        return json.loads(await self._send("GET", self._path(resource, name, subresource)))  # type: ignore[no-any-return]

    async def _send(self, method: str, path: str, body: bytes | None = None) -> bytes:
        headers = {**self.headers, "Accept": "application/json, */*", "User-Agent": "virtctl/v1.9.0"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        async with self.session.request(method, self.server + path, data=body, headers=headers) as response:
            content = await response.read()
            if response.status >= 300:
                raise VirtctlError(response.status, content.decode())
            return content

    @asynccontextmanager
    async def _stream(self, resource: str, name: str, subresource: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        path = self._path(resource, name, subresource)
        url = f"ws{self.server.removeprefix('http')}{path}"
        try:
            stream = await self.session.ws_connect(
                url, protocols=(PROTOCOL,), headers=self.headers, max_msg_size=0, compress=0, timeout=aiohttp.ClientWSTimeout(ws_close=5)
            )
        except aiohttp.WSServerHandshakeError as e:
            raise await self._refusal(path, e.status) from e
        connection = stream._response.connection
        transport = connection.transport if connection is not None else None
        try:
            assert stream.protocol == PROTOCOL
            yield stream
        finally:
            await stream.close()
            if transport is not None:
                transport.abort()  # both ends have said goodbye; a busy server takes its time to say that of TLS too

    async def _refusal(self, path: str, code: int) -> VirtctlError:
        """aiohttp throws the body of a refused handshake away, so the handshake is sent once more by hand."""
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        async with self.session.get(self.server + path, headers={**self.headers, **upgrade}) as response:
            assert response.status == code, "the same question got two answers"
            return VirtctlError(code, await response.text())


def _dry(dry_run: bool) -> dict[str, Any]:
    return {"dryRun": ["All"]} if dry_run else {}


def _set(**values: int | None) -> dict[str, int]:
    return {name: value for name, value in values.items() if value is not None}
