"""The aggregated API over real TLS, as the API server calls it, with machines that are a few sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from aiohttp import web

from pilvi.api import JsonObject, Key, Resource
from pilvi.engine.serve.aggregation import serve_aggregation
from pilvi.kube import Client, Kubeconfig
from pilvi.lib.deadline import wait_for
from pilvi.pki import KeyPair, Usage, create_ca, issue
from pilvi.plane.aggregation import api_services
from pilvi.providers import kubevirt
from pilvi.providers.kubevirt.kinds import INSTANCES, IPS, MACHINES, SUBNETS, VPCS
from pilvi.providers.kubevirt.machines.control import MachineControl, MachineRefusal, SandboxControl
from pilvi.providers.platform import Platform
from pilvi.runtime import EventRecorder, Informers
from pilvi.tenant import TenantClients
from tests.fake_api import FakeApi
from tests.unit.providers.kubevirt.objects import UID, make_ip, make_subnet, make_vm, make_vmi, make_vpc
from tests.unit.providers.stage import NoKit, NoUnits, make_cloud
from tests.virtctl import Virtctl

TIMEOUT_S = 10.0
PNG = b"\x89PNG\r\n\x1a\n and so on"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class FakeControl(MachineControl):
    """Notes what is asked of it; `folder` holds the sockets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {}

    def console(self, uid: str) -> Path:
        assert uid == UID
        return self.folder / "serial.sock"

    def screen(self, uid: str) -> Path:
        assert uid == UID
        return self.folder / "vnc.sock"

    async def screenshot(self, uid: str) -> bytes:
        self.calls.append(("screenshot", uid))
        return PNG

    async def pause(self, uid: str) -> None:
        self.calls.append(("pause", uid))

    async def resume(self, uid: str) -> None:
        self.calls.append(("resume", uid))

    async def reset(self, uid: str) -> None:
        self.calls.append(("reset", uid))

    async def soft_reboot(self, uid: str) -> None:
        self.calls.append(("soft_reboot", uid))

    async def agent(self, uid: str, command: str, arguments: JsonObject | None = None) -> Any:
        self.calls.append(("agent", uid, command))
        if command not in self.answers:
            raise MachineRefusal("the guest agent is not connected", hint="install qemu-guest-agent")
        return self.answers[command]

    async def freeze(self, uid: str, thaw_after_s: float) -> None:
        self.calls.append(("freeze", uid, thaw_after_s))

    async def thaw(self, uid: str) -> None:
        self.calls.append(("thaw", uid))


class ReviewingApi(FakeApi):
    """Answers SubjectAccessReviews too, as `allows` says, and notes them."""

    def __init__(self) -> None:
        super().__init__()
        self.allows: Callable[[JsonObject], bool] = lambda _spec: True
        self.asked: list[JsonObject] = []

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path != REVIEWS:
            return await super()._handle(request)
        spec = (await request.json())["spec"]
        self.asked.append(spec)
        status = {"allowed": True} if self.allows(spec) else {"allowed": False, "reason": "no rule says so"}
        return web.json_response({"status": status}, status=201)


@dataclass
class Served:
    """What a test looks at and changes."""

    api: ReviewingApi
    platform: Platform
    control: FakeControl
    port: int
    authorities: dict[str, KeyPair]
    task: asyncio.Task[None]

    def put(self, resource: Resource, obj: JsonObject) -> JsonObject:
        typed = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        path = resource.object_path(Key.of(typed))
        stored = self.api.put(path, typed)
        if uid := obj["metadata"].get("uid"):
            stored["metadata"]["uid"] = uid  # the fake API gives new ones, as real ones do
        return stored

    def put_machine(self, strategy: str = "Manual", **status: Any) -> JsonObject:
        return self.put(MACHINES, make_vm(strategy, **status))

    def put_instance(
        self, phase: str = "Running", *, fidelity: str = "Tcg", spec: JsonObject | None = None, **conditions: str
    ) -> JsonObject:
        vmi = make_vmi(phase)
        vmi["metadata"]["ownerReferences"] = [{"kind": "VirtualMachine", "name": "web", "uid": "vm-uid", "controller": True}]
        vmi["spec"] |= spec or {}
        found = [{"type": name, "status": status, "reason": name} for name, status in conditions.items()]
        vmi["status"]["conditions"] = [{"type": "pilvi.dev/Fidelity", "status": "True", "reason": fidelity}, *found]
        return self.put(INSTANCES, vmi)

    def get(self, resource: Resource) -> JsonObject:
        return self.api.objects[resource.object_path(Key("shop", "web"))]

    def context(self, name: str | None = "front-proxy-client", authority: str = "front-proxy") -> ssl.SSLContext:
        """How the API server dials, or somebody else who tries."""
        context = ssl.create_default_context(cadata=self.authorities["webhooks"].certificate.decode())
        if name is not None:
            pair = issue(self.authorities[authority], name, Usage.CLIENT)
            path = self.control.folder / f"{authority}-{name}.pem"
            path.write_bytes(pair.certificate + pair.key)
            context.load_cert_chain(path)
        return context

    @asynccontextmanager
    async def virtctl(self, user: str = "anna", groups: tuple[str, ...] = ("system:authenticated",)) -> AsyncIterator[Virtctl]:
        """virtctl behind the API server's proxy, as that user."""
        kubeconfig = Kubeconfig(server=f"https://localhost:{self.port}")
        headers = {"X-Remote-User": user, "X-Remote-Group": groups[0], "X-Remote-Extra-Authentication.kubernetes.io%2Fnode": "n1"}
        async with Virtctl.connect(kubeconfig, "shop", headers=headers, context=self.context()) as virtctl:
            yield virtctl

    @asynccontextmanager
    async def listening(self, name: str, talk: Talk) -> AsyncIterator[None]:
        """A socket of the machine; each connection gets `talk`."""
        writers: list[asyncio.StreamWriter] = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            await talk(reader, writer)

        server = await asyncio.start_unix_server(accept, self.control.folder / name)
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()
            for writer in writers:
                if writer.get_extra_info("socket").fileno() != -1:
                    writer.transport.abort()


@asynccontextmanager
async def serving(api: ReviewingApi, home: Path) -> AsyncIterator[Served]:
    """The listener with the real provider against the fake API."""
    authorities = {name: create_ca(name) for name in ("webhooks", "front-proxy", "strangers")}
    pair = issue(authorities["webhooks"], "webhook", Usage.SERVER, dns_names=("localhost",), addresses=(IPv4Address("127.0.0.1"),))
    files = (home / "tls.crt", home / "tls.key")
    for path, content in zip(files, (pair.certificate, pair.key), strict=True):
        path.write_bytes(content)
    (home / "front-proxy.crt").write_bytes(authorities["front-proxy"].certificate)
    control = FakeControl(home)
    controls: Mapping[str, MachineControl] = {"qemu": control, "sandbox": SandboxControl()}
    async with Client.open(api.kubeconfig) as client:
        informers, cloud = Informers(client), make_cloud(home)
        units: Any = NoUnits()
        platform = Platform(cloud, client, informers, units, EventRecorder(client, "test"), NoKit(), TenantClients(cloud, informers))
        group = kubevirt.subresources(platform, controls)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        port: int = listener.getsockname()[1]
        services = api_services(group.name, group.versions, authorities["webhooks"].certificate)
        main = serve_aggregation(listener, files, home / "front-proxy.crt", client, [group], services)
        task, watching = asyncio.create_task(main), asyncio.create_task(informers.run())
        served = Served(api, platform, control, port, authorities, task)
        for resource, obj in ((IPS, make_ip()), (SUBNETS, make_subnet()), (VPCS, make_vpc())):
            served.put(resource, obj)
        try:
            await informers.wait_synced(TIMEOUT_S)
            await wait_for(lambda: task.done() or len(_announced(api)) == len(services), TIMEOUT_S, "the APIServices", interval_s=0.01)
            yield served
        finally:
            task.cancel()
            watching.cancel()
            await asyncio.wait([task, watching])
        assert not _announced(api), "who has ended is announced no more"


def _announced(api: FakeApi) -> list[str]:
    return [path for path in api.objects if "/apiservices/" in path]
