"""A cloud's networks in real namespaces, around the real controllers and a small API server.

The host's namespace holds only the cloud bridge, without an address. The part of the host towards the routers is played by a namespace
`outside` on that bridge, so that a test changes no setting of the machine and meets no other cloud.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import ENDPOINT_SLICES, SERVICES
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachineInstance
from pilvi.host import nft
from pilvi.host.cloud import Cloud
from pilvi.host.leftovers import find_leftovers
from pilvi.host.netns import ensure_netns, in_netns, list_netns
from pilvi.host.network import (
    Bridge,
    NamespaceNetwork,
    Route,
    Tap,
    Veth,
    VethEnd,
    delete_link,
    delete_netns,
    ensure_network,
    ensure_tap,
    ensure_veth,
    list_links,
)
from pilvi.host.units import Units
from pilvi.kube import Client
from pilvi.providers import kubeovn, loadbalancer
from pilvi.providers.legs import control_plane_leg, control_plane_netns
from pilvi.providers.names import machine_netns, machine_port, subnet_bridge, vpc_netns
from pilvi.providers.platform import Platform
from pilvi.runtime import EventRecorder, Informers
from tests.fake_api import FakeApi
from tests.host.wire import Wire

OUTSIDE_ADDRESS = IPv4Address("203.0.113.2")
DEADLINE_S = 15.0


async def wait_for(what: str, predicate: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
    """Wait until `predicate()` is true and return it; an AssertionError that names `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"no {what} within {timeout_s:g} s"
        await asyncio.sleep(0.02)
    return value


@dataclass
class Lab:
    """One cloud. Made by `start_lab`."""

    api: FakeApi
    cloud: Cloud
    units: Units
    stack: AsyncExitStack
    engine: asyncio.Task[None] | None = None
    namespaces: list[str] = field(default_factory=list)

    # The engine

    async def start_engine(self) -> None:
        """Start the controllers on what the API and the kernel hold now."""
        self.engine = asyncio.create_task(self._run())

    async def stop_engine(self) -> None:
        """Kill the controllers; units and namespaces live on."""
        if self.engine is not None:
            self.engine.cancel()
            await asyncio.wait([self.engine])
            assert self.engine.cancelled() or self.engine.exception() is None, self.engine.exception()
            self.engine = None

    async def _run(self) -> None:
        async with Client.open(self.api.kubeconfig) as client:
            informers = Informers(client)
            units = Units(self.cloud)
            events = EventRecorder(client, "test")
            platform = Platform(cloud=self.cloud, client=client, informers=informers, units=units, events=events, kit=None, tenants=None)  # type: ignore[arg-type]
            controllers = [*kubeovn.controllers(platform), *loadbalancer.controllers(platform)]
            async with asyncio.TaskGroup() as group:
                group.create_task(units.run())
                group.create_task(events.run())
                for controller in controllers:
                    group.create_task(controller.run(informers))
                await asyncio.sleep(0)
                group.create_task(informers.run())

    # Objects

    def put(self, resource: Resource, name: str, namespace: str = "", **fields: Any) -> JsonObject:
        """Write an object as a user would."""
        key = Key(namespace, name)
        path = resource.object_path(key)
        new = resource.new(key, **fields)
        old = self.api.objects.get(path)
        if old is not None:
            new["metadata"] = {**old["metadata"], **new["metadata"]}
            new = {**old, **new}
        return self.api.put(path, new)

    def get(self, resource: Resource, name: str, namespace: str = "") -> JsonObject | None:
        return self.api.objects.get(resource.object_path(Key(namespace, name)))

    async def delete(self, resource: Resource, name: str, namespace: str = "") -> None:
        """Delete an object as a user would; finalizers are waited for by nobody here."""
        async with Client.open(self.api.kubeconfig) as client:
            await client.ensure_absent(resource, Key(namespace, name))

    async def vpc(self, name: str, cidr: str, subnet: str, **spec: Any) -> str:
        """A Vpc with one Subnet, up; returns the router's namespace."""
        self.put(Vpc.RESOURCE, name, spec=spec)
        self.put(Subnet.RESOURCE, subnet, spec={"vpc": name, "cidrBlock": cidr})
        await wait_for(f"Subnet {subnet} in the status of Vpc {name}", lambda: subnet in self.status(Vpc.RESOURCE, name).get("subnets", []))
        return vpc_netns(self.cloud, self.uid(Vpc.RESOURCE, name))

    def status(self, resource: Resource, name: str, namespace: str = "") -> JsonObject:
        return (self.get(resource, name, namespace) or {}).get("status") or {}

    def uid(self, resource: Resource, name: str, namespace: str = "") -> str:
        obj = self.get(resource, name, namespace)
        assert obj is not None
        return str(obj["metadata"]["uid"])

    def condition(self, resource: Resource, name: str, type: str, namespace: str = "") -> JsonObject:
        found = [entry for entry in self.status(resource, name, namespace).get("conditions") or [] if entry["type"] == type]
        return found[0] if found else {}

    # Machines and control planes, as kubevirt/ and kamaji/ make them

    async def machine(self, name: str, namespace: str, subnet: str, vpc: str) -> Machine:
        """A machine with the address that its IP object says, joined to its Subnet's bridge."""
        annotations = {"ovn.kubernetes.io/logical_switch": subnet}
        self.put(VirtualMachineInstance.RESOURCE, name, namespace, metadata={"annotations": annotations}, spec={})
        ip = await wait_for(f"IP of {namespace}/{name}", lambda: self.get(IP.RESOURCE, f"{name}.{namespace}"))
        uid = self.uid(VirtualMachineInstance.RESOURCE, name, namespace)
        network = IPv4Network(self.get(Subnet.RESOURCE, subnet)["spec"]["cidrBlock"])  # type: ignore[index]
        address = IPv4Address(ip["spec"]["v4IpAddress"])
        netns = machine_netns(self.cloud, uid)
        await self.namespace(netns)
        await ensure_veth(
            Veth(
                a=VethEnd(
                    netns=vpc_netns(self.cloud, self.uid(Vpc.RESOURCE, vpc)),
                    name=machine_port(uid),
                    master=subnet_bridge(self.uid(Subnet.RESOURCE, subnet)),
                ),
                b=VethEnd(netns=netns, name="eth0", mac=ip["spec"]["macAddress"], addresses=(IPv4Interface((address, network.prefixlen)),)),
            )
        )
        await ensure_network(NamespaceNetwork(netns=netns, routes=(Route(prefix=IPv4Network("0.0.0.0/0"), via=network[1]),)))
        return Machine(name, netns, address, uid)

    async def guest(self, name: str, namespace: str, subnet: str, vpc: str, **spec: Any) -> Wire:
        """A virtual machine's card on its tap, as the QEMU backend makes it; it has no address until it asks for one."""
        annotations = {"ovn.kubernetes.io/logical_switch": subnet}
        status = {"conditions": [{"type": "pilvi.dev/Fidelity", "status": "False", "reason": "Tcg", "message": ""}]}
        self.put(VirtualMachineInstance.RESOURCE, name, namespace, metadata={"annotations": annotations}, spec=spec, status=status)
        ip = await wait_for(f"IP of {namespace}/{name}", lambda: self.get(IP.RESOURCE, f"{name}.{namespace}"))
        netns = vpc_netns(self.cloud, self.uid(Vpc.RESOURCE, vpc))
        port = machine_port(self.uid(VirtualMachineInstance.RESOURCE, name, namespace))
        bridge = subnet_bridge(self.uid(Subnet.RESOURCE, subnet))
        await ensure_tap(Tap(netns=netns, name=port, master=bridge, mtu=(self.get(Subnet.RESOURCE, subnet) or {})["spec"].get("mtu", 1500)))
        return self.wire(Wire.on_tap(netns, port, ip["spec"]["macAddress"]))

    async def remove_guest(self, name: str, namespace: str, vpc: str = "one") -> None:
        """End a virtual machine and its tap."""
        port = machine_port(self.uid(VirtualMachineInstance.RESOURCE, name, namespace))
        await delete_link(vpc_netns(self.cloud, self.uid(Vpc.RESOURCE, vpc)), port)
        await self.delete(VirtualMachineInstance.RESOURCE, name, namespace)
        await wait_for("the IP gone", lambda: self.get(IP.RESOURCE, f"{name}.{namespace}") is None)

    def wire(self, wire: Wire) -> Wire:
        """Close it at the end."""
        self.stack.callback(wire.close)
        return wire

    def process(self, service: str) -> int:
        """The process of the one Vpc's service, `dns` or `dhcp`; 0 while there is none."""
        return next((state.pid or 0 for state in self.units.states() if state.name.endswith(f"-{service}")), 0)

    async def control_plane(self, name: str, namespace: str, vpc: str) -> ControlPlane:
        """A namespace with a cloud address on the bridge and a leg into the Vpc."""
        annotations = {"pilvi.dev/vpc": vpc}
        self.put(TenantControlPlane.RESOURCE, name, namespace, metadata={"annotations": annotations}, spec={})
        labels = {"kamaji.clastix.io/name": name}
        self.put(SERVICES, name, namespace, metadata={"labels": labels}, spec={"type": "LoadBalancer", "ports": [{"port": 6443}]})
        address = await self.cloud_address(name, namespace)
        uid = self.uid(TenantControlPlane.RESOURCE, name, namespace)
        netns = control_plane_netns(self.cloud, uid)
        await self.namespace(netns)
        leg = control_plane_leg(self.cloud, address)
        outer = VethEnd(
            netns=vpc_netns(self.cloud, self.uid(Vpc.RESOURCE, vpc)), name=leg.outer_link, addresses=(IPv4Interface((leg.outer, 31)),)
        )
        inner = VethEnd(netns=netns, name=leg.inner_link, addresses=(IPv4Interface((leg.inner, 31)),))
        await ensure_veth(Veth(a=outer, b=inner))
        await self.on_bridge(netns, uid, IPv4Interface((address, self.cloud.range.prefixlen)))
        return ControlPlane(netns, address, leg.outer)

    async def cloud_address(self, name: str, namespace: str) -> IPv4Address:
        """The address that a Service has been given."""

        def find() -> str | None:
            ingress = (self.status(SERVICES, name, namespace).get("loadBalancer") or {}).get("ingress") or []
            return ingress[0]["ip"] if ingress else None

        return IPv4Address(await wait_for(f"address of Service {namespace}/{name}", find))

    def service(self, name: str, namespace: str, ports: dict[int, int], machines: Sequence[Machine], **spec: Any) -> None:
        """A LoadBalancer Service (port -> port of the machines) with the EndpointSlice that Kubernetes would make of their Pods."""
        service_ports = [{"name": f"p{port}", "port": port, "protocol": "TCP"} for port in ports]
        self.put(SERVICES, name, namespace, spec={"type": "LoadBalancer", "ports": service_ports, **spec})
        self.put(
            ENDPOINT_SLICES,
            f"{name}-abcde",
            namespace,
            metadata={"labels": {"kubernetes.io/service-name": name}},
            addressType="IPv4",
            ports=[{"name": f"p{port}", "port": target, "protocol": "TCP"} for port, target in ports.items()],
            endpoints=[
                {
                    "addresses": [str(machine.address)],
                    "conditions": {"ready": True},
                    "targetRef": {"kind": "Pod", "name": f"virt-launcher-{machine.name}-x1y2z"},
                }
                for machine in machines
            ],
        )

    # Namespaces

    async def namespace(self, netns: str) -> None:
        await ensure_netns(netns)
        self.namespaces.append(netns)

    async def on_bridge(self, netns: str, uid: str, *addresses: IPv4Interface) -> None:
        """Give a namespace an `eth0` on the cloud bridge."""
        host_end = VethEnd(netns=None, name=self.cloud.link_name(uid), master=self.cloud.bridge)
        await ensure_veth(Veth(a=host_end, b=VethEnd(netns=netns, name="eth0", addresses=addresses)))

    @property
    def outside(self) -> str:
        return self.cloud.netns("outside")

    async def serve(self, netns: str | None, port: int, name: str) -> int:
        """A TCP server on all addresses of a namespace (None: the host) that answers with its name and the client's address.

        Returns its port; 0 asks for one that is free.
        """

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f"{name} {writer.get_extra_info('peername')[0]}".encode())
            await writer.drain()
            writer.close()

        with in_netns(netns):
            listener = socket.create_server(("", port))
        listener.setblocking(False)
        server = await asyncio.start_server(answer, sock=listener)
        self.stack.push_async_callback(_close, server)
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Machine:
    name: str
    netns: str
    address: IPv4Address
    uid: str


@dataclass(frozen=True)
class ControlPlane:
    netns: str
    address: IPv4Address
    gateway: IPv4Address


async def _close(server: asyncio.Server) -> None:
    server.close()


async def ask(netns: str, address: IPv4Address | str, port: int, timeout_s: float = 2.0) -> str:
    """What the server there answers: `<its name> <our address as it sees it>`; `refused` or `nothing` when there is no connection."""
    with in_netns(netns):
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    loop = asyncio.get_running_loop()
    with connection:
        try:
            async with asyncio.timeout(timeout_s):
                await loop.sock_connect(connection, (str(address), port))
                return (await loop.sock_recv(connection, 200)).decode()
        except TimeoutError:
            return "nothing"
        except OSError:
            return "refused"


async def until(what: str, question: Callable[[], Awaitable[bool]], timeout_s: float = DEADLINE_S) -> None:
    """Ask until the answer is yes; an AssertionError that names `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not await question():
        assert time.monotonic() < deadline, f"no {what} within {timeout_s:g} s"
        await asyncio.sleep(0.05)


async def ask_until(expected: str, netns: str, address: IPv4Address | str, port: int) -> None:
    """Ask until the answer begins as expected."""

    async def answers() -> bool:
        return (await ask(netns, address, port, 1.0)).startswith(expected)

    await until(f"answer {expected!r} from {address}:{port}", answers)


async def resolve(netns: str, server: IPv4Address | str, name: str, timeout_s: float = 1.0) -> IPv4Address | None:
    """One DNS question for an A record; None without one. Names that are not known yet are asked for outside, where nobody may answer."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0" + struct.pack("!HH", 1, 1)
    with in_netns(netns):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    loop = asyncio.get_running_loop()
    with client:
        await loop.sock_connect(client, (str(server), 53))
        try:
            async with asyncio.timeout(timeout_s):
                await loop.sock_sendall(client, struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + question)
                answer = await loop.sock_recv(client, 1500)
        except (TimeoutError, ConnectionRefusedError):
            return None
    count = struct.unpack("!HHHHHH", answer[:12])[3]
    return IPv4Address(answer[-4:]) if count else None


async def resolves(netns: str, server: IPv4Address, name: str, expected: IPv4Address) -> None:
    """Ask until that name has that address."""

    async def knows() -> bool:
        return await resolve(netns, server, name) == expected

    await until(f"address of {name} from {server}", knows)


async def ping(netns: str, address: IPv4Address | str, timeout_s: float = 0.5) -> bool:
    """Whether an echo request is answered."""
    with in_netns(netns):
        connection = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
    loop = asyncio.get_running_loop()
    with connection:
        connection.connect((str(address), 0))
        try:
            async with asyncio.timeout(timeout_s):
                await loop.sock_sendall(connection, struct.pack("!BBHHH", 8, 0, 0xFFFF - 0x0801, 0, 1))
                # The type comes after the header of IP. An error comes from elsewhere, and is not seen here.
                return (await loop.sock_recv(connection, 100))[20] == 0
        except (TimeoutError, OSError):
            return False


async def command(netns: str | None, *argv: str) -> str:
    """What a command prints that is run in a namespace (None: the host's)."""
    enter = ["nsenter", f"--net=/run/netns/{netns}"] if netns is not None else []
    process = await asyncio.create_subprocess_exec(*enter, *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def start_dns(netns: str | None, *flags: str) -> asyncio.subprocess.Process:
    """A nameserver in a namespace (None: the host's) that knows `example.test`."""
    enter = ["nsenter", f"--net=/run/netns/{netns}"] if netns is not None else []
    return await asyncio.create_subprocess_exec(
        *enter,
        "dnsmasq",
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--pid-file=",
        "--address=/example.test/192.0.2.7",
        *flags,
        stderr=asyncio.subprocess.DEVNULL,
    )


@asynccontextmanager
async def start_lab(api: FakeApi) -> AsyncIterator[Lab]:
    """A cloud with an id of its own and no controllers running yet; afterwards nothing of it is left."""
    cloud_id = "t" + secrets.token_hex(2)
    # Not pytest's folder: the resolver's user has to reach the files.
    home = Path(tempfile.mkdtemp(prefix=f"pilvi-{cloud_id}-", dir="/var/tmp"))
    os.chmod(home, 0o755)  # noqa: S103
    # Addresses and users of its own as well: other tests may be running on this machine.
    place = secrets.randbelow(128)
    cloud = Cloud(
        id=cloud_id,
        home=home,
        run=Path(f"/run/pilvi/{cloud_id}"),
        range=IPv4Network(f"10.249.{2 * place}.0/24"),
        transit=IPv4Network(f"10.249.{2 * place + 1}.0/24"),
        uid_base=1_170_000_000 + 100 * place,
        uid_count=100,
    )
    async with AsyncExitStack() as stack:
        lab = Lab(api, cloud, Units(cloud), stack)
        try:
            await ensure_network(NamespaceNetwork(netns=None, bridges=(Bridge(cloud.bridge),)))
            await lab.namespace(lab.outside)
            host_addresses = (cloud.host_address, cloud.transit_gateway, IPv4Interface((OUTSIDE_ADDRESS, 32)))
            await lab.on_bridge(lab.outside, "outside", *host_addresses)
            await lab.start_engine()
            yield lab
        finally:
            await lab.stop_engine()
            await stack.aclose()
            await lab.units.stop_all()
            lab.units.close()
            for netns in {*lab.namespaces, *list_netns(cloud.netns_prefix)}:
                await delete_netns(netns)
            await delete_link(None, cloud.bridge)
            await nft.delete(None, cloud.nft_host_table)
            shutil.rmtree(home)
            shutil.rmtree(cloud.run, ignore_errors=True)
        left = [str(leftover) for leftover in await find_leftovers(cloud)]
        assert left == [], left


async def leftovers(cloud: Cloud, keep: Sequence[str] = ()) -> list[str]:
    """What of the networks is on the host: namespaces, links, units, files; `keep` are namespaces of the test's own."""
    found = [f"namespace {name}" for name in list_netns(cloud.netns_prefix) if name not in keep]
    found += [
        f"link {link.name}" for link in await list_links(None, cloud.bridge) if link.name not in (cloud.bridge, cloud.link_name("outside"))
    ]
    found += [f"unit {name}" for name in os.listdir(cloud.units_dir)] if cloud.units_dir.exists() else []
    networks = cloud.home / "networks"
    return found + ([f"file {path}" for path in networks.rglob("*") if path.is_file()] if networks.exists() else [])
