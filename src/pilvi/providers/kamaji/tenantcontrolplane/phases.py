"""The phases of a TenantControlPlane, in order; each is idempotent and fills in the Progress.

Independent things are done side by side, and nothing waits before the API server's process is on its way: a cluster's first
seconds are spent here.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import ENDPOINT_SLICES, SECRETS, SERVICES
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import Subnet, Vpc
from pilvi.controlplane import (
    API_SERVER,
    AUTHORITIES,
    COMPONENTS,
    FIRST_COMPONENTS,
    LATER_COMPONENTS,
    ControlPlane,
    Keys,
    file_set,
    install_files,
    serving_probe,
    unit_spec,
)
from pilvi.errors import Bug, TimedOut
from pilvi.host.netns import ensure_netns, has_netns
from pilvi.host.units.probes import Probe
from pilvi.lib.clock import utc_now
from pilvi.lib.disk import on_disk
from pilvi.lib.together import together
from pilvi.providers.kamaji.datastore import find_store_problem
from pilvi.providers.kamaji.names import (
    CLUSTER_NAME_LABEL,
    CLUSTER_SECRET_TYPE,
    MANAGER,
    PROJECT_LABEL,
    ROTATE_ANNOTATION,
    labels,
)
from pilvi.providers.kamaji.tenantcontrolplane.inside import digest, ensure_inside
from pilvi.providers.kamaji.tenantcontrolplane.network import apply_network, find_subnets, plan_network, vpc_name
from pilvi.providers.kamaji.tenantcontrolplane.plane import addons_of, check_networks, control_plane, spec_of
from pilvi.providers.kamaji.tenantcontrolplane.renewal import MissingKeys, plan_keys, units_to_restart
from pilvi.providers.kamaji.tenantcontrolplane.secrets import SUFFIXES, checksum, encode, read_keys, secret_data, secret_name
from pilvi.providers.kamaji.tenantcontrolplane.service import endpoint_slice, find_service_taken, service
from pilvi.providers.kamaji.tenantcontrolplane.status import Problem, Progress, recorded_keys
from pilvi.providers.legs import control_plane_netns
from pilvi.providers.names import vpc_netns
from pilvi.providers.platform import Platform
from pilvi.providers.published import find_cloud_address
from pilvi.runtime import owner_reference

__all__ = ["Blocked", "Phases", "Starting"]

# How long one reconcile waits for an API server: short, so that a deletion meanwhile is soon seen.
WAIT_S = 3.0
# How long a start may take before it is called a failure; on a busy machine it takes ten times as long as usual.
START_TIMEOUT_S = 60.0
# A component that was started anew so often and still does not run is told of.
RESTARTS_WORTH_TELLING = 3


class Blocked(Exception):  # noqa: N818 (a state, no error)
    """The control plane cannot go on now; `problem` says why. `waiting`: something outside will change and wake it."""

    def __init__(self, problem: Problem, *, waiting: bool) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.waiting = waiting


class Starting(Exception):  # noqa: N818 (a state, no error)
    """The API server is starting; ask again at once."""


class Phases:
    """One TenantControlPlane on its way, in one reconcile. `tenant` is the object, `uid` the host user of its units."""

    def __init__(self, platform: Platform, tenant: JsonObject, typed: TenantControlPlane, uid: int, progress: Progress) -> None:
        self._platform = platform
        self._tenant = tenant
        self._typed = typed
        self._uid = uid
        self._key = Key.of(tenant)
        self._owner = owner_reference(tenant)
        self._progress = progress
        self.keys: Keys | None = None

    async def publish_service(self) -> None:
        """Have the Service, and take the address that the load balancer gave it. Raises Blocked while there is none."""
        spec = spec_of(self._typed)
        message = find_store_problem(spec.data_store, "spec.dataStore")
        if message is not None:
            raise Blocked(Problem("DataStoreNotServed", message), waiting=False)
        message = find_service_taken(self._platform.informers.get(SERVICES).get(self._key), self._key)
        if message is not None:
            raise Blocked(Problem("NameTaken", message), waiting=True)
        subnets = find_subnets(self._platform.informers.get(Subnet.RESOURCE).list(), vpc_name(self._tenant))
        cloud = self._platform.cloud
        check_networks(spec, {**cloud.networks, **subnets})
        wanted = service(self._typed, self._owner, recorded_endpoint=(self._tenant.get("status") or {}).get("controlPlaneEndpoint"))
        netns = control_plane_netns(cloud, self._typed.metadata.uid)
        stored, made = await together(self._platform.client.apply(SERVICES, wanted, manager=MANAGER), ensure_netns(netns))
        if made:
            self._platform.tables.forget(netns)
        self._progress.service = stored
        address = find_cloud_address(stored)
        if address is None:
            conditions = (stored.get("status") or {}).get("conditions") or []
            why = next((entry["message"] for entry in conditions if entry.get("status") == "False" and entry.get("message")), "")
            message = f"waiting for the cloud address of Service {self._key}" + (f": {why}" if why else "")
            raise Blocked(Problem("AddressPending", message), waiting=True)
        self._progress.address = address
        self._progress.plane = control_plane(self._typed, cloud, address=address, uid=self._uid, version=self._progress.wanted)

    async def prepare(self) -> None:
        """Have key material, files and network. Raises Blocked when an authority of an existing control plane is gone."""
        plane = self._plane()
        secrets = self._platform.informers.get(SECRETS, labels={PROJECT_LABEL: "kamaji"})
        present = {
            suffix: secret
            for suffix in SUFFIXES
            if (secret := secrets.get(Key(self._key.namespace, secret_name(self._key.name, suffix)))) is not None
        }
        lifetime = self._platform.settings.leaf_lifetime
        planned = plan_keys(plane, read_keys(present, AUTHORITIES), recorded_keys(self._tenant), utc_now(), lifetime)
        if isinstance(planned, MissingKeys):
            names = ", ".join(planned.secret_names(self._key.name))
            message = (
                f"Secret {names} is gone; put it back from a backup, since new keys would shut out every node and client of this cluster"
            )
            raise Blocked(Problem("CertificateAuthorityMissing", message), waiting=False)
        self.keys = planned.keys
        schema, user = self._progress.data_store = self._data_store()
        data = secret_data(
            plane,
            planned.keys,
            datastore={"DB_CONNECTION_STRING": "https://127.0.0.1:2379", "DB_SCHEMA": schema, "DB_USER": user, "DB_PASSWORD": ""},
        )
        router = self._find_router()
        subnets = find_subnets(self._platform.informers.get(Subnet.RESOURCE).list(), vpc_name(self._tenant))
        # Recorded before they are used: whatever fails below, the next pass goes on with the same keys.
        await together(*(self._write_secret(suffix, encode(content), present.get(suffix)) for suffix, content in data.items()))
        await together(
            on_disk(install_files, plane, file_set(plane, planned.keys)),
            apply_network(plan_network(self._platform.cloud, plane, subnets.values(), router), self._platform.tables),
        )
        self._progress.checksums = {suffix: checksum(content) for suffix, content in data.items()}

    async def start(self) -> None:
        """Have etcd and the API server run, and look whether it answers already. Raises Blocked when they cannot be started."""
        plane, keys, units = self._plane(), self._keys(), self._platform.units
        started = {
            component: datetime.fromtimestamp(state.started_at, UTC)
            for component in COMPONENTS
            if (state := units.state(plane.unit(component))).started_at is not None
        }
        for component in units_to_restart(keys, started) if self._is_startable() else ():
            await units.stop(plane.unit(component))
        before = units.state(plane.unit(API_SERVER)).pid
        await together(*self._ensure_units(FIRST_COMPONENTS))
        # One that has just begun is not asked: its answer may take as long as the probe's deadline.
        begun = units.state(plane.unit(API_SERVER)).pid != before
        self._progress.ready = not begun and await units.find_obstacle(plane.unit(API_SERVER)) is None
        self._look_for_failures()

    async def wait_serving(self) -> None:
        """Wait a while for the API server to serve us: enough for `write_inside`. Raises as `wait_ready`."""
        await self._wait(serving_probe(self._plane()))

    async def wait_ready(self) -> None:
        """Wait a while for the API server to be ready for all. Raises Starting when it needs more time, UnitFailed, TimedOut."""
        await self._wait(None)
        self._progress.ready = True

    async def _wait(self, probe: Probe | None) -> None:
        unit, units = self._plane().unit(API_SERVER), self._platform.units
        try:
            await units.wait_ready(unit, WAIT_S, probe)
        except TimedOut as e:
            started_at = units.state(unit).started_at
            if started_at is not None and time.time() - started_at < START_TIMEOUT_S:
                raise Starting(str(e)) from e
            raise

    async def write_inside(self) -> None:
        """Have everything inside the cluster that nodes need."""
        plane, spec = self._plane(), spec_of(self._typed)
        wanted = digest(plane, spec)
        if wanted != self._progress.inside:
            await ensure_inside(plane, spec, self._platform.tenants.open(self._tenant))
        addons = addons_of(spec)
        self._progress.inside = wanted
        self._progress.core_dns, self._progress.kube_proxy = addons.core_dns is not None, addons.kube_proxy is not None

    async def complete(self) -> None:
        """Have the other two components run; then the version counts as installed. Raises Blocked when they cannot be started."""
        plane = self._plane()
        endpoints = endpoint_slice(self._typed, self._owner, plane.address)
        await together(
            *self._ensure_units(LATER_COMPONENTS),
            self._platform.client.apply(ENDPOINT_SLICES, endpoints, manager=MANAGER),
            self.write_inside(),
        )
        self._progress.installed = plane.version
        self._look_for_failures()

    def _ensure_units(self, components: Iterable[str]) -> list[Coroutine[Any, Any, Any]]:
        """The steps that have these components run. Without the programs of their version they are left as they are: raises Blocked
        when one does not run.
        """
        plane, units = self._plane(), self._platform.units
        if self._is_startable():
            return [units.ensure(unit_spec(plane, component)) for component in components]
        dead = [component for component in components if units.state(plane.unit(component)).state != "running"]
        if dead:
            known = ", ".join(self._platform.kit.built_versions())
            message = (
                f"{dead[0]} cannot be started: the programs of Kubernetes {plane.version} are gone, and this cloud has {known};"
                " upgrade the control plane, or bring the old kit back with `pilvi kit import`"
            )
            raise Blocked(Problem("VersionGone", message), waiting=True)
        return []

    def _is_startable(self) -> bool:
        """Whether the programs are here. Of a version that is not the one that runs, the first start says what is missing."""
        plane = self._plane()
        return plane.version != self._progress.installed or self._platform.kit.has_kubernetes(plane.version)

    def _look_for_failures(self) -> None:
        plane = self._plane()
        for component in COMPONENTS:
            state = self._platform.units.state(plane.unit(component))
            if state.state in ("waiting", "exited") and state.restarts >= RESTARTS_WORTH_TELLING:
                last = state.log_tail.strip().rpartition("\n")[2]
                message = f"{component} keeps ending ({state.exit}); see `pilvi logs {state.name}`; its last line: {last}"
                self._progress.failing = Problem("ComponentFailing", message)
                return

    def _find_router(self) -> str | None:
        vpc = self._platform.informers.get(Vpc.RESOURCE).get(Key("", vpc_name(self._tenant)))
        if vpc is None or vpc["metadata"].get("deletionTimestamp"):
            return None
        users = (vpc.get("spec") or {}).get("namespaces") or ()
        if users and self._key.namespace not in users:
            return None  # the Vpc's conditions say so
        name = vpc_netns(self._platform.cloud, vpc["metadata"]["uid"])
        return name if has_netns(name) else None

    def _data_store(self) -> tuple[str, str]:
        """Schema and user of the store: as asked for, else as recorded, else the UID, as Kamaji has it."""
        spec = spec_of(self._typed)
        recorded = ((self._tenant.get("status") or {}).get("storage") or {}).get("setup") or {}
        uid = self._typed.metadata.uid
        return spec.data_store_schema or recorded.get("schema") or uid, spec.data_store_username or recorded.get("user") or uid

    async def _write_secret(self, suffix: str, data: dict[str, str], present: JsonObject | None) -> None:
        """Create or correct one Secret. Never overwrites one that the cache did not show: it may hold an authority."""
        wanted_labels = labels(self._key.name, "certificate" if suffix != "datastore-config" else "datastore")
        cluster = (self._typed.metadata.labels or {}).get(CLUSTER_NAME_LABEL)
        if cluster:
            wanted_labels[CLUSTER_NAME_LABEL] = cluster
        key = Key(self._key.namespace, secret_name(self._key.name, suffix))
        client = self._platform.client
        if present is None:
            metadata = {"labels": wanted_labels, "ownerReferences": [self._owner]}
            secret = SECRETS.new(key, metadata=metadata, type=CLUSTER_SECRET_TYPE if suffix == "ca" else "Opaque", data=data)
            await client.create(SECRETS, secret, manager=MANAGER)
            return
        metadata = present["metadata"]
        have_labels, have_data = metadata.get("labels") or {}, present.get("data") or {}
        rotated = ROTATE_ANNOTATION in (metadata.get("annotations") or {})
        if have_data == data and wanted_labels.items() <= have_labels.items() and not rotated:
            return
        removed = {name: None for name in have_data if name not in data}
        change: JsonObject = {
            "metadata": {"resourceVersion": metadata["resourceVersion"], "labels": wanted_labels},
            "data": {**data, **removed},
        }
        if rotated:
            change["metadata"]["annotations"] = {ROTATE_ANNOTATION: None}
        await client.patch(SECRETS, key, change, manager=MANAGER)

    def _plane(self) -> ControlPlane:
        if self._progress.plane is None:
            raise Bug("a phase that needs the address came before it")
        return self._progress.plane

    def _keys(self) -> Keys:
        if self.keys is None:
            raise Bug("a phase that needs the keys came before them")
        return self.keys
