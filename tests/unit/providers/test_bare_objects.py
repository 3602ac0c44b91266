"""Objects as bare as the API server stores them: no handler, index or wake-up function may stumble, since that ends the engine.

The informers are fed by hand and never say that they are synced, so nothing is reconciled and nothing reaches the host.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Iterator
from pathlib import Path

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import ENDPOINT_SLICES, NAMESPACES, NODES, PODS, SECRETS, SERVICES
from pilvi.engine.main import PROVIDERS
from pilvi.kube import Client, WatchEvent
from pilvi.providers.platform import Platform
from pilvi.runtime import EventRecorder, Informers
from pilvi.tenant import TenantClients
from tests.fake_api import FakeApi
from tests.unit.providers.stage import NoKit, NoUnits, make_cloud

NAME, NAMESPACE = "a", "team"
VERSIONS = itertools.count(1)
# Every reference that others follow leads to the object of this name.
LABELS = {
    "cluster.x-k8s.io/cluster-name": NAME,
    "kamaji.clastix.io/project": "kamaji",
    "kubernetes.io/service-name": NAME,
    "pilvi.dev/owner-kind": "KubevirtCluster",
    "pilvi.dev/owner-namespace": NAMESPACE,
    "pilvi.dev/owner-name": NAME,
}
BARE: tuple[JsonObject, ...] = ({}, {"spec": {}}, {"spec": {}, "status": {}}, {"status": {}})
# Kubernetes' own kinds are whole, the API server refuses them otherwise.
WHOLE: dict[str, JsonObject] = {
    SERVICES.kind: {"spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}},
    ENDPOINT_SLICES.kind: {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.1.2"]}], "ports": [{"port": 80}]},
    SECRETS.kind: {"type": "Opaque"},
    PODS.kind: {"spec": {"containers": [{"name": "a", "image": "a"}]}},
    NAMESPACES.kind: {"spec": {}},
    NODES.kind: {"spec": {}},
}


def objects(resource: Resource) -> Iterator[JsonObject]:
    """One object of a kind as it changes."""
    key = Key(NAMESPACE if resource.namespaced else "", f"{NAME}.{NAMESPACE}" if resource.kind == "IP" else NAME)
    for content in (WHOLE[resource.kind],) if resource.kind in WHOLE else BARE:
        yield resource.new(
            key, metadata={"uid": f"uid-{resource.kind}", "resourceVersion": str(next(VERSIONS)), "labels": LABELS}, **content
        )


async def test_bare_objects_wake_everybody_and_hurt_nobody(fake_api: FakeApi, tmp_path: Path) -> None:
    async with Client.open(fake_api.kubeconfig) as client:
        informers, cloud, units = Informers(client), make_cloud(tmp_path), NoUnits()
        platform = Platform(
            cloud,
            client,
            informers,
            units,  # type: ignore[arg-type]
            EventRecorder(client, "test"),
            NoKit(),
            TenantClients(cloud, informers),
        )
        controllers = [controller for provider in PROVIDERS for controller in provider.controllers(platform)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(controller.run(informers)) for controller in controllers]
            await asyncio.sleep(0)  # they subscribe
            kinds = {informer: [*objects(informer.resource)] for informer in informers}
            # Twice, so that the first of each kind, too, meets the others.
            for informer, states in [*kinds.items(), *kinds.items()]:
                for obj in states:
                    informer._take(WatchEvent("MODIFIED", copy.deepcopy(obj)))
            woken = {controller.name for controller in controllers if len(controller.queue)}
            for informer, states in kinds.items():
                informer._take(WatchEvent("DELETED", states[-1]))
            assert not any(task.done() for task in tasks)
            for task in tasks:
                task.cancel()
    assert woken == {controller.name for controller in controllers}
