"""What runs and what does not, as one document; works with a dead engine and with a dead API."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS, MACHINE_DEPLOYMENTS, MACHINES, NODES, PERSISTENT_VOLUMES, STORAGE_CLASSES
from pilvi.api.kubevirt import VirtualMachineInstance
from pilvi.errors import Forbidden, NotFound, PilviError, format_chain
from pilvi.host.cloud import Cloud
from pilvi.host.units import UnitState, read_units
from pilvi.kube import Client, Kubeconfig
from pilvi.lib.quantity import quantity_bytes
from pilvi.plane.faults import is_healthy
from pilvi.plane.heartbeat import ENGINE_AWAY
from pilvi.plane.why import explain
from pilvi.plane.world import World, read_world
from pilvi.runtime import find_condition, is_true

__all__ = [
    "CloudStatus",
    "ClusterStatus",
    "EngineStatus",
    "HostStatus",
    "MachineStatus",
    "Status",
    "StorageClassStatus",
    "UnitStatus",
    "cluster_status",
    "find_units",
    "read_status",
]

API_TIMEOUT_S = 5.0
LEAST_FREE_MIB = 100  # what etcd takes at a time, and some logs
FIDELITY = "pilvi.dev/Fidelity"
PROVISIONER = "local.pilvi.dev"
CLUSTER_NAME_LABEL = "cluster.x-k8s.io/cluster-name"


class CloudStatus(msgspec.Struct, rename="camel"):
    """Which cloud this is. `id` is empty when its home is on another host. `cause` says that its disk is full."""

    id: str = ""
    home: str = ""
    range: str = ""
    machines: str = ""
    cause: str = ""


class EngineStatus(msgspec.Struct, rename="camel"):
    """The engine's process; `pid` None means that none runs."""

    pid: int | None = None
    version: str | None = None


class UnitStatus(msgspec.Struct, rename="camel"):
    """One unit: `running`, `waiting` for its restart, or `exited`. `cause` is how its process ended and its last log line."""

    name: str
    pid: int | None
    state: str
    memory_bytes: int | None
    cause: str = ""


class HostStatus(msgspec.Struct, rename="camel"):
    """One virtual host: a Node of the platform on which machines run. `cpu` and `memory` are what machines may use.

    A host that is ready has a `cause` too when its disk is full.
    """

    name: str
    ready: bool
    cpu: str
    memory: str
    cause: str = ""


class ClusterStatus(msgspec.Struct, rename="camel"):
    """One Cluster; `nodes` says how many workers are Ready, out of how many wanted: `1/2`."""

    namespace: str
    name: str
    version: str
    ready: bool
    nodes: str
    cause: str = ""


class MachineStatus(msgspec.Struct, rename="camel"):
    """One VirtualMachineInstance.

    `backend` is what was chosen to run it: qemu or sandbox. `fidelity` says how real that makes it: kvm, tcg or sandbox. Both are empty
    while the engine has not looked at the machine, or has refused it.
    """

    namespace: str
    name: str
    backend: str
    fidelity: str
    phase: str
    addresses: list[str]
    cause: str = ""


class StorageClassStatus(msgspec.Struct, rename="camel"):
    """One of pilvi's storage classes and what it can do; `method` is how copies are made: reflink (at once) or copy.

    `promised_bytes` is the size of all its volumes, `free_bytes` what is free on the disk that they are on: None for a cloud elsewhere.
    """

    name: str
    clone: bool
    snapshot: bool
    share: bool
    expand: bool
    method: str
    promised_bytes: int
    free_bytes: int | None


class Status(msgspec.Struct, rename="camel"):
    """The whole document; its fields only ever grow. `api` is empty when the API answers, else why it does not."""

    cloud: CloudStatus
    engine: EngineStatus
    api: str = ""
    units: list[UnitStatus] = []
    hosts: list[HostStatus] = []
    clusters: list[ClusterStatus] = []
    machines: list[MachineStatus] = []
    storage_classes: list[StorageClassStatus] = []


async def read_status(
    cloud: Cloud | None, engine: EngineStatus, kubeconfig: Kubeconfig | Path | None, *, api_timeout_s: float = API_TIMEOUT_S
) -> Status:
    """Read everything. Without a kubeconfig, or an API that answers, only what files and /proc tell; without a cloud on this
    host (a kubeconfig of another one) only what the API tells. Raises nothing that a dead cloud can cause.
    """
    states = find_units(cloud)
    status = Status(_cloud(cloud), engine, units=[_unit(state) for state in states])
    if kubeconfig is None:
        status.api = "there is no kubeconfig to ask it with"
        return status
    try:
        async with Client.open(kubeconfig, timeout_s=api_timeout_s) as client:
            world, storage = await asyncio.gather(read_world(client), _read_storage(client, cloud))
    except PilviError as e:
        status.api = "; ".join(filter(None, (format_chain(e), status.cloud.cause)))
        return status
    if cloud is not None and engine.pid is None:
        world.engine = ENGINE_AWAY  # known at once: its process would be on this host
    status.hosts = [_host(world, node, states) for node in world.of_kind(NODES)]
    for host in status.hosts:  # its Node may tell of the disk as well, but not when that cannot be written any more
        host.cause = "; ".join(filter(None, (host.cause, status.cloud.cause)))
    status.clusters = [cluster_status(world, cluster, states) for cluster in world.of_kind(CLUSTERS)]
    status.machines = [_machine(world, machine, states) for machine in world.of_kind(VirtualMachineInstance.RESOURCE)]
    status.storage_classes = storage
    return status


def find_units(cloud: Cloud | None) -> list[UnitState]:
    """The units of a cloud as far as this user may see them: only root sees any. None without a cloud on this host."""
    if cloud is None or not os.access(cloud.units_dir, os.R_OK | os.X_OK):
        return []
    return read_units(cloud)


def cluster_status(world: World, cluster: JsonObject, states: Sequence[UnitState] = ()) -> ClusterStatus:
    """The status of one Cluster. Pure."""
    key = Key.of(cluster)
    machines = [machine for machine in world.of_kind(MACHINES) if _belongs(machine, key)]
    ready_nodes = [machine for machine in machines if is_true(machine, "NodeReady")]
    topology = cluster["spec"].get("topology") or {}
    version = topology.get("version") or next((machine["spec"].get("version") or "" for machine in machines), "")
    ready = is_true(cluster, "Available") and not cluster["metadata"].get("deletionTimestamp")
    return ClusterStatus(
        key.namespace,
        key.name,
        version,
        ready,
        f"{len(ready_nodes)}/{_wanted(world, cluster, key, len(machines))}",
        "" if ready else explain(world, cluster, states).cause,
    )


def _wanted(world: World, cluster: JsonObject, key: Key, machines: int) -> int:
    """How many workers are asked for; before there is a MachineDeployment the topology tells."""
    deployments = [deployment for deployment in world.of_kind(MACHINE_DEPLOYMENTS) if _belongs(deployment, key)]
    if deployments:
        return sum(deployment["spec"].get("replicas", 1) for deployment in deployments)
    workers = ((cluster["spec"].get("topology") or {}).get("workers") or {}).get("machineDeployments") or []
    return sum(worker.get("replicas", 1) for worker in workers) or machines


def _belongs(obj: JsonObject, cluster: Key) -> bool:
    return Key(obj["metadata"].get("namespace") or "", obj["spec"].get("clusterName") or "") == cluster


def _cloud(cloud: Cloud | None) -> CloudStatus:
    if cloud is None:
        return CloudStatus()
    return CloudStatus(cloud.id, str(cloud.home), str(cloud.range), cloud.machines, _disk(cloud))


def _disk(cloud: Cloud) -> str:
    """The API server may answer for long after the disk is full, until its store has to grow; so the disk itself is asked."""
    try:
        free_mib = shutil.disk_usage(cloud.home).free >> 20
    except OSError as e:
        return f"the disk of {cloud.home} does not answer: {e.strerror}"
    if free_mib >= LEAST_FREE_MIB:
        return ""
    return f"the disk is full: {free_mib} MiB free at {cloud.home}, and what is written may be lost; free some there"


async def _read_storage(client: Client, cloud: Cloud | None) -> list[StorageClassStatus]:
    """Our storage classes, as far as this user may read what is cluster-wide."""
    try:
        classes, volumes = await asyncio.gather(client.list(STORAGE_CLASSES), client.list(PERSISTENT_VOLUMES))
    except (Forbidden, NotFound):
        return []
    free = None
    if cloud is not None:
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(cloud.home).free
    return [_storage_class(entry, volumes, free) for entry in sorted(classes, key=Key.of) if entry.get("provisioner") == PROVISIONER]


def _storage_class(storage_class: JsonObject, volumes: Sequence[JsonObject], free: int | None) -> StorageClassStatus:
    name, told = storage_class["metadata"]["name"], storage_class["metadata"].get("annotations") or {}

    def can(what: str) -> bool:
        return told.get(f"pilvi.dev/{what}") == "true"

    return StorageClassStatus(
        name,
        can("clone"),
        can("snapshot"),
        can("share"),
        can("expand"),
        told.get("pilvi.dev/copy-method", ""),
        sum(quantity_bytes(volume["spec"]["capacity"]["storage"]) for volume in volumes if volume["spec"].get("storageClassName") == name),
        free,
    )


def _unit(state: UnitState) -> UnitStatus:
    cause = ""
    if state.state != "running":
        last = (state.log_tail.splitlines() or [""])[-1]
        cause = f"ended with {state.exit or 'unknown'}" + (f": {last}" if last else "")
    return UnitStatus(state.name, state.pid, state.state, state.memory_bytes, cause)


def _host(world: World, node: JsonObject, states: Sequence[UnitState]) -> HostStatus:
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    ready = is_true(node, "Ready")
    cause = "" if is_healthy(node) else explain(world, node, states).cause
    return HostStatus(node["metadata"]["name"], ready, allocatable.get("cpu", ""), allocatable.get("memory", ""), cause)


def _machine(world: World, machine: JsonObject, states: Sequence[UnitState]) -> MachineStatus:
    key = Key.of(machine)
    status = machine.get("status") or {}
    told = find_condition(machine, FIDELITY)
    fidelity = told["reason"].lower() if told else ""
    phase = status.get("phase") or "Pending"
    ready = phase == "Succeeded" or (is_true(machine, "Ready") and not machine["metadata"].get("deletionTimestamp"))
    return MachineStatus(
        key.namespace,
        key.name,
        "sandbox" if fidelity == "sandbox" else "qemu" if fidelity else "",
        fidelity,
        phase,
        [interface["ipAddress"] for interface in status.get("interfaces") or [] if interface.get("ipAddress")],
        "" if ready else explain(world, machine, states).cause,
    )
