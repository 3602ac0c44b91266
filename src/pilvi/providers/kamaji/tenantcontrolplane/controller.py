"""The controller of TenantControlPlane: one API server with all that it needs, with or without Cluster API."""

from __future__ import annotations

from collections.abc import Iterable

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import SECRETS, SERVICES
from pilvi.api.kamaji import DataStore, TenantControlPlane
from pilvi.api.kubeovn import DEFAULT_VPC, Subnet, Vpc
from pilvi.api.object import decode
from pilvi.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    DriverError,
    Forbidden,
    Invalid,
    PilviError,
    TimedOut,
    Transient,
    UnitFailed,
    UserError,
    format_chain,
)
from pilvi.lib.clock import utc_now
from pilvi.lib.versions import normalize
from pilvi.providers.kamaji.names import MANAGER, PROJECT_LABEL, TENANT_FINALIZER, TENANT_PAUSED_ANNOTATION
from pilvi.providers.kamaji.tenantcontrolplane.ending import remove_control_plane, remove_strays
from pilvi.providers.kamaji.tenantcontrolplane.network import vpc_name
from pilvi.providers.kamaji.tenantcontrolplane.phases import Blocked, Phases, Starting
from pilvi.providers.kamaji.tenantcontrolplane.plane import spec_of
from pilvi.providers.kamaji.tenantcontrolplane.renewal import next_renewal
from pilvi.providers.kamaji.tenantcontrolplane.status import (
    Problem,
    Progress,
    compute_status,
    find_deployment_condition,
    installed_version,
    recorded_digest,
)
from pilvi.providers.kamaji.tenantcontrolplane.user import Users
from pilvi.providers.kamaji.versions import describe_outdated, find_version_problem
from pilvi.providers.legs import control_plane_unit
from pilvi.providers.platform import Platform
from pilvi.runtime import (
    Controller,
    Done,
    Failed,
    RequeueAfter,
    Result,
    Waiting,
    Watch,
    controller_key,
    ensure_finalizer,
    has_finalizer,
    is_deleting,
    remove_finalizer,
)

__all__ = ["TenantControlPlanes", "controller"]

RESOURCE = TenantControlPlane.RESOURCE
NOBODY = Key("", "")  # the key of no object
BY_UNIT = "unit"  # index of the cache: what the control plane's units are called

# An API server that hangs without ending sends no signal, so it is asked from time to time.
CHECK_INTERVAL_S = 300.0


class TenantControlPlanes:
    """Reconciles TenantControlPlanes."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._tenants = platform.informers.get(RESOURCE)
        self._tenants.add_index(BY_UNIT, lambda obj: [control_plane_unit(obj["metadata"]["uid"])])
        self._users = Users(platform)

    async def reconcile(self, key: Key) -> Result:
        """Bring one control plane closer to what its object says."""
        tenant = self._tenants.get(key)
        if tenant is None:
            # Mostly nothing is left then. It is when the object went without us, or before this engine began.
            uids = [present["metadata"]["uid"] for present in self._tenants.list()]
            await remove_strays(self._platform.cloud, self._platform.units, uids)
            return Done()
        if TENANT_PAUSED_ANNOTATION in (tenant["metadata"].get("annotations") or {}):
            return Done()  # as in Kamaji, whatever its value, and its deletion waits too
        if is_deleting(tenant):
            return await self._end(tenant)
        tenant = await ensure_finalizer(self._platform.client, RESOURCE, tenant, TENANT_FINALIZER)
        typed = decode(TenantControlPlane, tenant)
        spec, installed = spec_of(typed), installed_version(tenant)
        try:
            tenant, uid = await self._users.ensure(tenant)
        except UserError as e:
            await self._refuse(tenant, spec.kubernetes.version, Problem("UsersExhausted", format_chain(e)))
            return Failed(format_chain(e))  # the end of another cluster wakes nobody
        kit, known = self._platform.kit, self._platform.kit.built_versions()
        refused = find_version_problem(spec.kubernetes.version, installed, known)
        if refused is not None and installed is None:
            return await self._refuse(tenant, spec.kubernetes.version, Problem(refused.reason, refused.message))
        # A version that may not be had leaves the running one as it is, with all its care.
        wanted = normalize(spec.kubernetes.version) if refused is None else installed or ""
        progress = Progress(wanted=wanted, installed=installed, inside=recorded_digest(tenant))
        if wanted == installed:
            progress.outdated = describe_outdated(installed, known, is_present=kit.has_kubernetes(installed))
        phases = Phases(self._platform, tenant, typed, uid, progress)
        try:
            await phases.publish_service()
            await phases.prepare()
            await phases.start()
            if not progress.ready:
                # What is known so far is of use to others (the address, the Secrets), and a start takes seconds.
                tenant = await self._write_status(tenant, progress)
                await phases.wait_serving()
                # The API server takes another second for its default roles, which nothing in here needs.
                await phases.write_inside()
                await phases.wait_ready()
            result = await self._complete(phases)
        except (Blocked, Starting, PilviError, OSError) as e:
            result = _outcome(e, progress)
        if refused is not None and progress.problem is None:
            progress.problem = Problem(refused.reason, refused.message)
        await self._write_status(tenant, progress)
        return result

    async def _refuse(self, tenant: JsonObject, wanted: str, problem: Problem) -> Result:
        """Nothing can be made of this object: say so and leave it until it, or something around it, changes."""
        await self._write_status(tenant, Progress(wanted=wanted, installed=installed_version(tenant), problem=problem))
        return Failed(problem.message, permanent=True)

    async def _complete(self, phases: Phases) -> Result:
        """What an API server that answers allows; returns when to look again."""
        await phases.complete()
        if phases.keys is None:
            return Done()
        until_renewal_s = (next_renewal(phases.keys) - utc_now()).total_seconds()
        return RequeueAfter(max(1.0, min(CHECK_INTERVAL_S, until_renewal_s)))

    async def _write_status(self, tenant: JsonObject, progress: Progress) -> JsonObject:
        """Write the status when it differs; what a person would want to know becomes an Event."""
        status = compute_status(tenant, progress, utc_now())
        if status == tenant.get("status"):
            return tenant
        self._tell(tenant, status, progress)
        # Without the resource version: this controller alone writes the status, and others may write the rest at any time.
        metadata = {name: tenant["metadata"][name] for name in ("name", "namespace", "uid")}
        return await self._platform.client.apply_status(RESOURCE, {"metadata": metadata, "status": status}, manager=MANAGER)

    def _tell(self, tenant: JsonObject, status: JsonObject, progress: Progress) -> None:
        before = ((tenant.get("status") or {}).get("kubernetesResources") or {}).get("version") or {}
        now = status["kubernetesResources"]["version"]
        events = self._platform.events
        if now["status"] == "Ready" and before.get("status") != "Ready":
            events.record(tenant, "Normal", "Ready", f"Kubernetes {now['version']} answers at {status.get('controlPlaneEndpoint')}")
        elif now["status"] == "NotReady" and before.get("status") == "Ready":
            events.record(tenant, "Warning", "NotReady", "the API server does not answer; it is being started again")
        elif now["status"] == "Upgrading" and before.get("status") != "Upgrading":
            events.record(tenant, "Normal", "Upgrading", f"from {progress.installed} to {progress.wanted}")
        said = find_deployment_condition(tenant, "Progressing")
        problem = progress.problem or (Problem("UpgradeDue", progress.outdated) if progress.outdated else None)
        if problem is not None and (said is None or said.get("message") != problem.message):
            events.record(tenant, "Normal" if problem.reason == "AddressPending" else "Warning", problem.reason, problem.message)
        failing = find_deployment_condition(tenant, "ReplicaFailure")
        if progress.failing is not None and (failing is None or failing["status"] != "True"):
            events.record(tenant, "Warning", progress.failing.reason, progress.failing.message)

    async def _end(self, tenant: JsonObject) -> Result:
        if not has_finalizer(tenant, TENANT_FINALIZER):
            return Done()
        await remove_control_plane(self._platform.cloud, self._platform.units, tenant["metadata"]["uid"])
        await remove_finalizer(self._platform.client, RESOURCE, tenant, TENANT_FINALIZER)
        self._users.forget(tenant["metadata"]["uid"])
        return Done()


def controller(platform: Platform) -> Controller:
    """The controller, woken by what it owns, by networks of its VPC, and by its units."""
    reconciler = TenantControlPlanes(platform)
    tenants = platform.informers.get(RESOURCE)

    def owner(obj: JsonObject) -> Iterable[Key]:
        key = controller_key(obj, RESOURCE)
        return [key] if key is not None else []

    def of_vpc(vpc: str) -> list[Key]:
        return [Key.of(tenant) for tenant in tenants.list() if vpc_name(tenant) == vpc]

    made = Controller(
        "tenantcontrolplane",
        RESOURCE,
        reconciler.reconcile,
        owns=[SERVICES],
        watches=[
            Watch(SECRETS, owner, labels={PROJECT_LABEL: "kamaji"}),
            # One of its name that is somebody else's is in the way until it goes.
            Watch(SERVICES, lambda obj: [Key.of(obj)] if tenants.get(Key.of(obj)) else [], lambda _old, _new: False),
            Watch(Vpc.RESOURCE, lambda obj: of_vpc(obj["metadata"]["name"])),
            Watch(Subnet.RESOURCE, lambda obj: of_vpc((obj.get("spec") or {}).get("vpc") or DEFAULT_VPC)),
            # A new engine looks once for control planes whose object was lost, also when no object is left to wake it.
            Watch(DataStore.RESOURCE, lambda _store: [NOBODY], lambda _old, _new: False),
        ],
        # A start waits for its API server for seconds, and a dead one must not hold up the others.
        concurrency=16,
        # Every wait in it has a shorter deadline; should one be forgotten, a cluster stands still for two minutes and not for ten.
        timeout_s=120.0,
    )

    def on_unit(name: str) -> None:
        for tenant in tenants.by_index(BY_UNIT, "-".join(name.split("-")[:2])):
            made.enqueue(Key.of(tenant))

    platform.units.subscribe(on_unit)
    return made


def _outcome(error: Exception, progress: Progress) -> Result:
    """What an error means for a control plane: a problem that its status tells, and when to look again.

    Raises the error itself where the runtime knows better what to do.
    """
    match error:
        case Blocked():
            progress.problem = error.problem
            if error.waiting:
                return Waiting(error.problem.reason, error.problem.message)
            return Failed(error.problem.message, permanent=True)
        case Starting():
            return Waiting("ControlPlaneStarting", str(error), retry_s=0.05)
        case UserError():
            progress.problem = Problem("InvalidSpec", format_chain(error))
            return Failed(format_chain(error), permanent=True)
        case UnitFailed() | DriverError() | TimedOut() | OSError():  # OSError: a full disk above all
            progress.problem = Problem("ComponentFailed", _explain(error))
        case AlreadyExists():
            hint = f"it is somebody else's: delete it, or give it the label {PROJECT_LABEL}: kamaji if it is a backup"
            progress.problem = Problem("ObjectInTheWay", f"{format_chain(error)}; {hint}")
        case Forbidden() | Invalid():  # a quota, or a policy of an administrator
            progress.problem = Problem("ObjectRefused", format_chain(error))
        case ApiError() | Transient() if progress.plane is not None and not isinstance(error, Conflict):
            # Mostly the tenant's API server answers, but not all that was asked of it, as while it is very busy.
            progress.problem = Problem("ControlPlaneBusy", f"{format_chain(error)}; it is asked again every second")
            return Waiting("ControlPlaneBusy", format_chain(error), retry_s=1.0)
        case _:
            raise error
    return Failed(progress.problem.message)


def _explain(error: UnitFailed | DriverError | TimedOut | OSError) -> str:
    """What failed, in a sentence or two: of a log only the last line, since a condition is read in a table."""
    if not isinstance(error, UnitFailed) or not error.log_tail.strip():
        return format_chain(error)
    what = str(error).partition("; its last log lines")[0]
    return f"{what}; see `pilvi logs {error.unit}`; its last line: {error.log_tail.strip().rpartition(chr(10))[2]}"
