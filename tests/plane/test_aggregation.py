"""The engine's aggregated API behind a real API server: available, allowed, discovered, and out of the way when the engine is dead."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilvi.api import Key
from pilvi.api.builtin import API_SERVICES, CLUSTER_ROLES, NAMESPACES, ROLE_BINDINGS
from pilvi.engine.serve.aggregation import serve_aggregation
from pilvi.errors import ServerBusy
from pilvi.kube import Client, Kubeconfig, apply_all
from pilvi.pki import KeyPair, Usage, create_ca, issue
from pilvi.plane.aggregation import api_services, server_name, service_objects
from pilvi.plane.default_objects import defaults
from pilvi.providers import kubevirt
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.platform import Platform
from pilvi.runtime import EventRecorder, Informers
from pilvi.tenant import TenantClients
from tests.plane.apiserver import NOBODY
from tests.plane.connections import end_serving
from tests.plane.machine_plane import MachinePlane, running_plane
from tests.unit.providers.kubevirt.objects import make_vm, make_vmi
from tests.unit.providers.kubevirt.subresources.served import FakeControl
from tests.unit.providers.stage import NoKit, NoUnits, make_cloud
from tests.virtctl import Virtctl, VirtctlError

TIMEOUT_S = 120.0
GROUP = "subresources.kubevirt.io"
VERSIONS = ("v1", "v1alpha3")


@dataclass
class Scenery:
    """The API server and what the engine needs to serve behind it."""

    plane: MachinePlane
    webhooks: KeyPair
    front_proxy: Path
    home: Path
    address: IPv4Address
    port: int

    @asynccontextmanager
    async def engine(self, control: FakeControl, *, dies: bool = False) -> AsyncIterator[None]:
        """The listener for the length of a block; with `dies` it ends as by SIGKILL, and takes nothing away."""
        async with Client.open(self.plane.kubeconfig()) as client:
            informers, cloud = Informers(client), make_cloud(self.home)
            units: Any = NoUnits()
            platform = Platform(cloud, client, informers, units, EventRecorder(client, "test"), NoKit(), TenantClients(cloud, informers))
            group = kubevirt.subresources(platform, {"qemu": control})
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((str(self.address), self.port))
            listener.setblocking(False)
            files = (self.home / "tls.crt", self.home / "tls.key")
            pair = issue(self.webhooks, "webhook", Usage.SERVER, dns_names=(server_name(),))
            for path, content in zip(files, (pair.certificate, pair.key), strict=True):
                path.write_bytes(content)
            await apply_all(client, service_objects(self.address, self.port), manager="test")
            services = api_services(group.name, group.versions, self.webhooks.certificate)
            tasks = [
                asyncio.create_task(informers.run()),
                asyncio.create_task(serve_aggregation(listener, files, self.front_proxy, client, [group], () if dies else services)),
            ]
            try:
                if dies:
                    await apply_all(client, services, manager="pilvi-plane")
                await until(lambda: all_available(client), "the APIServices to be available")
                await until(lambda: is_passed_on(client), "the API server to pass requests on")
                yield
            finally:
                await end_serving(tasks, listener)


async def all_available(client: Client) -> bool:
    services = [obj for obj in await client.list(API_SERVICES) if obj["spec"].get("group") == GROUP]
    conditions = [entry for obj in services for entry in (obj.get("status") or {}).get("conditions") or []]
    return len(services) == 2 and [entry["status"] for entry in conditions if entry["type"] == "Available"] == ["True", "True"]


async def is_passed_on(client: Client) -> bool:
    """The API server answers 503 by itself until it has read what it has written about the APIService."""
    with contextlib.suppress(ServerBusy):
        return all([await client.raw("GET", f"/apis/{GROUP}/{version}") for version in VERSIONS])
    return False


async def until(predicate: Callable[[], Awaitable[Any]], what: str) -> float:
    """Wait until it holds; returns how many seconds that took."""
    started = time.monotonic()
    while not await predicate():
        assert time.monotonic() < started + TIMEOUT_S, f"waited in vain for {what}"
        await asyncio.sleep(0.02)
    return time.monotonic() - started


@pytest.fixture(scope="module")
def scenery(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("plane")
    front_proxy = create_ca("front-proxy")
    client = issue(front_proxy, "front-proxy-client", Usage.CLIENT)
    files = {
        "front-proxy-ca.crt": front_proxy.certificate,
        "front-proxy-client.crt": client.certificate,
        "front-proxy-client.key": client.key,
    }
    for name, content in files.items():
        (home / name).write_bytes(content)
    flags = (
        f"--requestheader-client-ca-file={home}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={home}/front-proxy-client.crt",
        f"--proxy-client-key-file={home}/front-proxy-client.key",
        "--enable-aggregator-routing=true",
    )
    with running_plane(home, *flags) as plane:
        asyncio.run(_prepare(plane))
        yield Scenery(plane, create_ca("webhooks"), home / "front-proxy-ca.crt", tmp_path_factory.mktemp("engine"), *_own_address())


async def _prepare(plane: MachinePlane) -> None:
    async with Client.open(plane.kubeconfig()) as client:
        wanted = [obj for obj in defaults() if obj["kind"] in ("Namespace", "ClusterRole", "ClusterRoleBinding")]
        await apply_all(client, wanted, manager="pilvi-plane")


def _own_address() -> tuple[IPv4Address, int]:
    """An address of this host that may be an endpoint (those of the loopback may not), and a free port. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.254", 9))
        address: str = probe.getsockname()[0]
    with socket.create_server((address, 0)) as free:
        return IPv4Address(address), free.getsockname()[1]


@asynccontextmanager
async def virtctl(scenery: Scenery, user: str = "admin", namespace: str = "default") -> AsyncIterator[Virtctl]:
    kubeconfig = Kubeconfig(server=f"https://127.0.0.1:{scenery.plane.port}", token=f"{user}-token", insecure=True)
    async with Virtctl.connect(kubeconfig, namespace) as found:
        yield found


@asynccontextmanager
async def namespace_with_machine(scenery: Scenery, name: str) -> AsyncIterator[Client]:
    async with Client.open(scenery.plane.kubeconfig()) as client:
        await client.create(NAMESPACES, {"metadata": {"name": name}})
        vm, vmi = make_vm("Halted"), make_vmi("Running")
        for obj in (vm, vmi):
            obj["metadata"] = {"name": "web", "namespace": name}
        vm.pop("status")
        vmi["status"]["conditions"] = [{"type": "pilvi.dev/Fidelity", "status": "True", "reason": "Tcg", "lastTransitionTime": None}]
        await client.create(MACHINES, vm)
        await client.create(INSTANCES, vmi)
        try:
            yield client
        finally:
            await client.ensure_absent(INSTANCES, Key(name, "web"))
            await client.ensure_absent(MACHINES, Key(name, "web"))


class AnyControl(FakeControl):
    """Of the machine with whatever UID the API server has given it."""

    def console(self, uid: str) -> Path:
        return self.folder / "serial.sock"


async def test_rbac_opens_the_way(scenery: Scenery, tmp_path: Path) -> None:
    control = AnyControl(tmp_path)
    async with namespace_with_machine(scenery, "rbac") as client, scenery.engine(control), virtctl(scenery, NOBODY, "rbac") as nobody:
        with pytest.raises(VirtctlError, match="nobody") as refused:
            await nobody.screenshot("web")
        assert refused.value.code == 403
        # What the API server itself looks at is less than what the engine asks about.
        await grant(client, "half", ["virtualmachineinstances/vnc"], ["get"])

        async def told_by_the_engine() -> bool:
            with pytest.raises(VirtctlError) as half:
                await nobody.screenshot("web")
            assert half.value.code == 403
            return '"virtualmachineinstances/vnc/screenshot"' in str(half.value)

        await until(told_by_the_engine, "the API server to know of the role")
        await grant(client, "whole", ["virtualmachineinstances/vnc/screenshot"], ["get"])

        async def allowed() -> bool:
            with contextlib.suppress(VirtctlError):
                return (await nobody.screenshot("web")).startswith(b"\x89PNG")
            return False

        await until(allowed, "the role to be in force")
        with pytest.raises(VirtctlError, match="nobody"):
            await nobody.start("web")
        # Whoever is authenticated may ask for the version, as upstream.
        assert (await nobody.version())["gitVersion"].startswith("v1.9.0+")


async def grant(client: Client, name: str, resources: list[str], verbs: list[str]) -> None:
    rules = [{"apiGroups": [GROUP], "resources": resources, "verbs": verbs}]
    await client.create(CLUSTER_ROLES, {"metadata": {"name": f"test-{name}"}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"test-{name}"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": NOBODY}
    await client.create(ROLE_BINDINGS, {"metadata": {"name": name, "namespace": "rbac"}, "roleRef": role, "subjects": [subject]})


async def test_a_machine_is_started_and_talked_to(scenery: Scenery, tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    control = AnyControl(tmp_path)
    server = await asyncio.start_unix_server(echo, tmp_path / "serial.sock")
    async with namespace_with_machine(scenery, "talk") as client, scenery.engine(control), virtctl(scenery, namespace="talk") as admin:
        await admin.start("web")
        assert (await client.get(MACHINES, Key("talk", "web")))["spec"]["runStrategy"] == "Always"
        await admin.pause("web")
        assert [call[0] for call in control.calls] == ["pause"]
        async with admin.console("web") as stream:
            for text in (b"hello\r\n", b"x" * 10_000):
                await stream.send_bytes(text)
                got = b""
                async with asyncio.timeout(TIMEOUT_S):
                    while len(got) < len(text):
                        got += (await stream.receive()).data
                assert got == text
    server.close()
    await server.wait_closed()


async def test_discovery_has_no_holes(scenery: Scenery, tmp_path: Path) -> None:
    async with Client.open(scenery.plane.kubeconfig()) as client:
        async with scenery.engine(AnyControl(tmp_path)):
            found = await client.raw("GET", f"/apis/{GROUP}/v1")
            assert "virtualmachines/start" in {entry["name"] for entry in msgspec.json.decode(found)["resources"]}

            async def listed() -> bool:
                return await states(client) == {"v1": "Current", "v1alpha3": "Current"}

            await until(listed, "discovery to show both versions")
        assert await states(client) == {}, "an engine that ends in order leaves no hole"


async def states(client: Client) -> dict[str, str]:
    """What aggregated discovery says of each version, as kubectl and the namespace controller read it."""
    async with Virtctl.connect(client.kubeconfig) as raw:
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        async with raw.session.get(f"{raw.server}/apis", headers={**raw.headers, "Accept": accept}) as response:
            groups = (await response.json(content_type=None))["items"]
    return {
        version["version"]: version.get("freshness", "Current")
        for group in groups
        if group["metadata"]["name"] == GROUP
        for version in group["versions"]
    }


async def test_what_a_dead_engine_leaves_behind(scenery: Scenery, tmp_path: Path) -> None:
    """Killed, it is announced still: discovery has a hole until the next engine serves, and namespaces wait; all else goes on."""
    async with Client.open(scenery.plane.kubeconfig()) as client:
        async with scenery.engine(AnyControl(tmp_path), dies=True):
            pass
        await client.create(NAMESPACES, {"metadata": {"name": "doomed"}})
        for obj in await client.list(API_SERVICES):  # the API server looks every half minute, or when they change
            if obj["spec"].get("group") == GROUP:
                await client.patch(API_SERVICES, Key.of(obj), {"metadata": {"annotations": {"test": "look"}}})
        await until(lambda: negate(all_available(client)), "the API server to notice")
        started = time.monotonic()
        assert "Stale" in (await states(client)).values()
        assert time.monotonic() - started < 4, "discovery does not become slow"
        await client.delete(NAMESPACES, Key("", "doomed"))

        async def waits() -> bool:
            conditions = ((await client.get(NAMESPACES, Key("", "doomed"))).get("status") or {}).get("conditions") or []
            return ("NamespaceDeletionDiscoveryFailure", "True") in {(entry["type"], entry["status"]) for entry in conditions}

        async def gone() -> bool:
            return await client.find(NAMESPACES, Key("", "doomed")) is None

        await until(waits, "the namespace to wait for discovery")
        assert (await client.create(NAMESPACES, {"metadata": {"name": "born"}}))["metadata"]["name"] == "born"
        async with scenery.engine(AnyControl(tmp_path)):
            await until(gone, "the namespace to go")
        assert await states(client) == {}
        # Without an announcement nothing waits for a dead engine.
        await client.delete(NAMESPACES, Key("", "born"))
        await until(lambda: negate(present(client, "born")), "a namespace to go while there is no engine")


async def present(client: Client, name: str) -> bool:
    return await client.find(NAMESPACES, Key("", name)) is not None


async def negate(value: Awaitable[bool]) -> bool:
    return not await value


async def test_who_edits_a_namespace_edits_its_machines(scenery: Scenery) -> None:
    async with Client.open(scenery.plane.kubeconfig()) as client:

        async def has(role: str, resource: str) -> bool:
            rules = (await client.get(CLUSTER_ROLES, Key("", role))).get("rules") or []
            return any(GROUP in rule["apiGroups"] and resource in rule["resources"] for rule in rules)

        for role in ("edit", "admin", "kubevirt.io:admin"):
            await until(partial(has, role, "virtualmachines/start"), f"role {role} to have it")
        await until(partial(has, "view", "virtualmachineinstances/guestosinfo"), "role view to have it")
        assert not await has("view", "virtualmachineinstances/console")
