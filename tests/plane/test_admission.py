"""The webhook that checks across objects, as a real API server asks it: refusals, dry runs, and writes while nobody answers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import CLUSTERS, SERVICES, VALIDATING_WEBHOOK_CONFIGURATIONS
from pilvi.api.controlplane import KamajiControlPlane
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import IP, Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachineInstance
from pilvi.engine.main import PROVIDERS
from pilvi.engine.serve.admission import serve_admission
from pilvi.kube import Client
from pilvi.pki import Usage, create_ca, issue
from pilvi.plane.admission import webhooks
from pilvi.providers import kubevirt
from pilvi.providers.platform import Platform
from pilvi.runtime import EventRecorder, Informers
from pilvi.tenant import TenantClients
from tests.plane.apiserver import Answer
from tests.plane.connections import end_serving
from tests.plane.machine_plane import MachinePlane
from tests.unit.providers.stage import NoKit, NoUnits, make_cloud

TIMEOUT_S = 30.0


class Engine:
    """The listener with the checks of all providers, in a thread with a loop of its own: requests of this test block."""

    def __init__(self, plane: MachinePlane, home: Path) -> None:
        self._plane = plane
        self._home = home
        authority = create_ca("webhooks")
        pair = issue(authority, "webhook", Usage.SERVER, addresses=(IPv4Address("127.0.0.1"),))
        self._files = (home / "tls.crt", home / "tls.key")
        for path, content in zip(self._files, (pair.certificate, pair.key), strict=True):
            path.write_bytes(content)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port: int = probe.getsockname()[1]
        self.configuration = webhooks(authority.certificate, self._port)

    @contextmanager
    def running(self) -> Iterator[None]:
        started: Future[Callable[[], Any]] = Future()
        thread = threading.Thread(target=lambda: asyncio.run(self._run(started)))
        thread.start()
        stop = started.result(TIMEOUT_S)
        try:
            yield
        finally:
            stop()
            thread.join(TIMEOUT_S)
            assert not thread.is_alive(), "the listener does not end"

    async def _run(self, started: Future[Callable[[], Any]]) -> None:
        end, loop = asyncio.Event(), asyncio.get_running_loop()
        try:
            async with Client.open(self._plane.kubeconfig()) as client:
                informers, cloud = Informers(client), make_cloud(self._home)
                units: Any = NoUnits()
                tenants = TenantClients(cloud, informers)
                platform = Platform(cloud, client, informers, units, EventRecorder(client, "test"), NoKit(), tenants)
                checks = [check for provider in PROVIDERS for check in provider.checks(platform)]
                listener = socket.create_server(("127.0.0.1", self._port))
                listener.setblocking(False)
                mains = (informers.run(), serve_admission(listener, self._files, informers, checks, kubevirt.evictions(platform)))
                tasks = [asyncio.create_task(main) for main in mains]
                await informers.wait_synced(TIMEOUT_S)
                started.set_result(lambda: loop.call_soon_threadsafe(end.set))
                await end.wait()
                await end_serving(tasks, listener)
        except BaseException as e:
            if not started.done():
                started.set_exception(e)
            raise


@pytest.fixture(scope="module")
def engine(plane: MachinePlane, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Not running yet; its configuration is in force."""
    made = Engine(plane, tmp_path_factory.mktemp("engine"))
    assert plane.request("POST", VALIDATING_WEBHOOK_CONFIGURATIONS.path(), made.configuration).status == 201
    assert put(plane, Vpc.RESOURCE, "lab", {}).status == 201
    assert put(plane, Subnet.RESOURCE, "a", {"vpc": "lab", "cidrBlock": "10.0.1.0/24"}).status == 201
    with made.running():
        until(lambda: put(plane, Subnet.RESOURCE, "probe", {"vpc": "lab", "cidrBlock": "10.0.1.0/24"}, dry_run=True).status == 422)
    return made


def put(
    plane: MachinePlane,
    resource: Resource,
    name: str,
    spec: JsonObject,
    *,
    dry_run: bool = False,
    user: str = "admin",
    annotations: dict[str, str] | None = None,
    version: str = "",
) -> Answer:
    key = Key("default" if resource.namespaced else "", name)
    obj = resource.new(key, metadata={"annotations": annotations or {}}, spec=spec)
    path = resource.path(key.namespace)
    if version:
        obj["apiVersion"] = f"{resource.group}/{version}"
        path = path.replace(f"/{resource.version}/", f"/{version}/")
    return plane.request("POST", path + ("?dryRun=All" if dry_run else ""), obj, user=user)


def patch(plane: MachinePlane, resource: Resource, name: str, body: JsonObject) -> Answer:
    return plane.request("PATCH", resource.object_path(Key("", name)), body, content_type="application/merge-patch+json")


def until(predicate: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not predicate():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


OVERLAPPING = {"vpc": "lab", "cidrBlock": "10.0.0.0/16"}
PODS = {"pods": {"cidrBlocks": ["10.244.0.0/16"]}, "services": {"cidrBlocks": ["10.96.0.0/16"]}}


def topology(subnet: str) -> JsonObject:
    variables = [{"name": "subnet", "value": subnet}]
    return {"clusterNetwork": PODS, "topology": {"classRef": {"name": "pilvi"}, "version": "v1.37.2", "variables": variables}}


def test_an_overlap_is_refused(plane: MachinePlane, engine: Engine) -> None:
    with engine.running():
        refused = put(plane, Subnet.RESOURCE, "b", OVERLAPPING)
    assert refused.status == 422
    assert "10.0.0.0/16 overlaps 10.0.1.0/24 of Subnet a in the same Vpc lab" in refused.message
    assert "choose another network" in refused.message


def test_what_fits_is_taken_without_a_word(plane: MachinePlane, engine: Engine) -> None:
    with engine.running():
        accepted = put(plane, Subnet.RESOURCE, "fits", {"vpc": "lab", "cidrBlock": "10.0.2.0/24"})
    assert (accepted.status, accepted.warnings) == (201, [])


def test_what_may_come_later_is_a_warning(plane: MachinePlane, engine: Engine) -> None:
    with engine.running():
        warned = put(plane, Subnet.RESOURCE, "early", {"vpc": "later", "cidrBlock": "10.0.3.0/24"})
    assert warned.status == 201
    assert any("there is no Vpc later; create it" in warning for warning in warned.warnings)


def test_a_dead_engine_blocks_nobody(plane: MachinePlane, engine: Engine) -> None:
    started = time.monotonic()
    accepted = put(plane, Subnet.RESOURCE, "dead", OVERLAPPING)
    assert accepted.status == 201
    assert time.monotonic() - started < 2, "nor does it slow anybody down"
    with engine.running():
        body: JsonObject = {"spec": {"excludeIps": ["10.0.0.9"]}}
        assert patch(plane, Subnet.RESOURCE, "dead", body).status == 200, "what it let through stays editable"
        again = patch(plane, Subnet.RESOURCE, "dead", {"spec": {"vpc": "lab", "cidrBlock": "10.0.1.128/25"}})
        assert again.status == 422
        # Not asked about: a deletion, and whatever is written to what is being deleted.
        assert patch(plane, Subnet.RESOURCE, "dead", {"metadata": {"finalizers": ["pilvi.dev/test"]}}).status == 200
        assert plane.request("DELETE", Subnet.RESOURCE.object_path(Key("", "dead"))).status == 200
        assert patch(plane, Subnet.RESOURCE, "dead", {"metadata": {"finalizers": None}, "spec": {"cidrBlock": "10.0.0.0/17"}}).status == 200


def test_who_is_not_asked_about(plane: MachinePlane, engine: Engine) -> None:
    with engine.running():
        assert put(plane, Subnet.RESOURCE, "own", OVERLAPPING, user="engine", dry_run=True).status == 201
        mark = {"topology.cluster.x-k8s.io/dry-run": ""}
        assert put(plane, Subnet.RESOURCE, "topology", OVERLAPPING, annotations=mark, dry_run=True).status == 201
        assert put(plane, Subnet.RESOURCE, "topology", OVERLAPPING, annotations=mark).status == 422, "the mark alone opens nothing"
        assert put(plane, Subnet.RESOURCE, "topology", OVERLAPPING, dry_run=True).status == 422, "a person's dry run tells the truth"


def test_every_kind_is_asked_about(plane: MachinePlane, engine: Engine) -> None:
    """One refusal for each, so that its rule, its conditions and its conversion are seen to work."""
    assert put(plane, Subnet.RESOURCE, "pods", {"cidrBlock": "10.244.7.0/24"}, user="engine").status == 201
    ip = {"podName": "other", "namespace": "default", "subnet": "a", "v4IpAddress": "10.0.1.9", "macAddress": "02:00:00:00:00:01"}
    ip |= {"ipAddress": "10.0.1.9", "v6IpAddress": "", "nodeName": "", "containerID": "", "podType": "VirtualMachine"}
    ip |= {"attachIps": [], "attachMacs": [], "attachSubnets": []}
    assert put(plane, IP.RESOURCE, "other.default", ip, user="engine").status == 201
    machine = {"domain": {"devices": {}, "memory": {"guest": "1Gi"}}}
    wish = {"ovn.kubernetes.io/logical_switch": "a", "ovn.kubernetes.io/ip_address": "10.0.1.9"}
    control_plane = {"kubernetes": {"version": "v1.37.2", "kubelet": {}}, "controlPlane": {"service": {"serviceType": "LoadBalancer"}}}
    ports = [{"port": 80}]
    with engine.running():
        instance = put(plane, VirtualMachineInstance.RESOURCE, "web", machine, annotations=wish)
        tenant = put(plane, TenantControlPlane.RESOURCE, "first", control_plane)
        store = put(plane, KamajiControlPlane.RESOURCE, "first", {"version": "v1.37.2", "dataStoreName": "mine"}, version="v1alpha1")
        service = put(plane, SERVICES, "web", {"type": "LoadBalancer", "loadBalancerIP": "10.77.0.1", "ports": ports})
        cluster = put(plane, CLUSTERS, "first", topology("pods"))
    for answer, words in (
        (instance, "10.0.1.9 is in use in Vpc lab"),
        (tenant, "podCidr 10.244.0.0/16 overlaps Subnet pods"),
        (store, "spec.dataStoreName 'mine' is not served"),
        (service, "ask for one of 10.250.0.3"),
        (cluster, "spec.clusterNetwork.pods 10.244.0.0/16 and Subnet pods 10.244.7.0/24 overlap"),
    ):
        assert answer.status == 422, answer.message
        assert words in answer.message
