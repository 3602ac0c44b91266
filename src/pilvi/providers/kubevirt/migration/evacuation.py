"""Evictions of machines: what whoever asks is answered, and the moves that follow.

As in KubeVirt (pod-eviction-admitter.go, pkg/virt-controller/watch/drain): a machine that shall move is marked by
`status.evacuationNodeName`, and the eviction is refused with 429, which `kubectl drain` repeats until the Pod is gone.
"""

from __future__ import annotations

from datetime import timedelta

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import PODS
from pilvi.lib.clock import parse_time, utc_now
from pilvi.providers.kubevirt.instance.pod import CREATED_BY
from pilvi.providers.kubevirt.instance.status import FINAL_PHASES as ENDED
from pilvi.providers.kubevirt.instance.status import phase_of
from pilvi.providers.kubevirt.kinds import INSTANCES, MIGRATIONS
from pilvi.providers.kubevirt.migration.queue import find_unfinished, is_of_instance, phase_of_migration
from pilvi.providers.kubevirt.migration.state import active_pod
from pilvi.providers.platform import Platform
from pilvi.runtime import Done, RequeueAfter, Result, is_deleting, is_true

__all__ = ["EVACUATION", "Evacuations", "Evictions", "plan_eviction"]

EVACUATION = "kubevirt.io/evacuationMigration"
"""Annotation on a migration that an eviction has led to: the host that the machine leaves."""
_MOVING = ("LiveMigrate", "LiveMigrateIfPossible")
_BACKOFF_S = 10.0
_LONGEST_BACKOFF_S = 300.0


def plan_eviction(vmi: JsonObject, pod: str) -> tuple[bool, str]:
    """Whether the machine has to be marked, and the refusal; empty when its Pod may be evicted, which stops the machine. Pure."""
    name = f"{vmi['metadata']['namespace']}/{vmi['metadata']['name']}"
    strategy = vmi["spec"].get("evictionStrategy") or "None"
    if strategy == "None" or is_deleting(vmi) or phase_of(vmi) in ENDED or pod != active_pod(vmi):
        return False, ""
    if strategy in _MOVING and not is_true(vmi, "LiveMigratable"):
        if strategy == "LiveMigrateIfPossible":
            return False, ""
        return False, f"VMI {name} is configured with an eviction strategy but is not live-migratable"
    if strategy not in (*_MOVING, "External"):
        return False, ""
    status = vmi.get("status") or {}
    if status.get("nodeName") and status.get("evacuationNodeName") == status["nodeName"]:
        return False, f"Evacuation in progress: VMI {name} is leaving its host"
    return True, f"Eviction triggered evacuation of VMI {name}"


class Evictions:
    """Answers evictions, from `kubectl drain` and from hosts that the cloud shall have no more."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client
        self._pods = platform.informers.get(PODS)
        self._instances = platform.informers.get(INSTANCES)
        self._instances.add_index("uid", lambda vmi: [vmi["metadata"]["uid"]])

    async def answer(self, request: JsonObject) -> JsonObject:
        """The `response` to an AdmissionReview of `pods/eviction`. Raises what a write to the API may raise."""
        pod = self._pods.get(Key(request["namespace"], request["name"]))
        refusal = await self.ask(pod, dry_run=bool(request.get("dryRun"))) if pod is not None else ""
        response: JsonObject = {"uid": request["uid"], "allowed": not refusal}
        if refusal:
            response["status"] = {"code": 429, "reason": "TooManyRequests", "message": refusal}
        return response

    async def ask(self, pod: JsonObject, *, dry_run: bool = False) -> str:
        """Why the Pod may not be evicted, with the machine marked; empty when it may."""
        vmi = self._machine_of(pod)
        if vmi is None:
            return ""
        mark, refusal = plan_eviction(vmi, pod["metadata"]["name"])
        if mark and not dry_run:
            body = {"metadata": {"uid": vmi["metadata"]["uid"]}, "status": {"evacuationNodeName": pod["spec"].get("nodeName")}}
            await self._client.patch(INSTANCES, Key.of(vmi), body)
        return refusal

    async def empty(self, host: str) -> bool:
        """Ask all machines of a host to leave it; returns whether no Pod is left there."""
        there = [pod for pod in self._pods.list() if pod["spec"].get("nodeName") == host]
        for pod in there:
            if not is_deleting(pod) and not await self.ask(pod):
                await self._client.ensure_absent(PODS, Key.of(pod), uid=pod["metadata"]["uid"])
        return not there

    def _machine_of(self, pod: JsonObject) -> JsonObject | None:
        uid = (pod["metadata"].get("labels") or {}).get(CREATED_BY)
        return next(iter(self._instances.by_index("uid", uid)), None) if uid else None


class Evacuations:
    """The reconciler of instances that are marked: makes a migration for each, again and ever later when it fails."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client
        self._instances = platform.informers.get(INSTANCES)
        self._migrations = platform.informers.get(MIGRATIONS)

    async def reconcile(self, key: Key) -> Result:
        """One pass for the instance `key`."""
        vmi = self._instances.get(key)
        status = (vmi or {}).get("status") or {}
        leaves = status.get("evacuationNodeName")
        if vmi is None or not leaves or is_deleting(vmi) or phase_of(vmi) in ENDED:
            return Done()
        if leaves != status.get("nodeName"):
            body = {"metadata": {"uid": vmi["metadata"]["uid"]}, "status": {"evacuationNodeName": None}}
            await self._client.patch(INSTANCES, key, body)
            return Done()
        if vmi["spec"].get("evictionStrategy") not in _MOVING or find_unfinished(vmi, self._migrations.list()):
            return Done()
        wait_s = self._backoff_s(vmi, leaves)
        if wait_s > 0:
            return RequeueAfter(wait_s)
        await self._client.create(
            MIGRATIONS,
            {
                "metadata": {
                    "generateName": "kubevirt-evacuation-",
                    "namespace": key.namespace,
                    "annotations": {EVACUATION: leaves},
                },
                "spec": {"vmiName": key.name},
            },
        )
        return Done()

    def _backoff_s(self, vmi: JsonObject, host: str) -> float:
        failed = [
            one
            for one in self._migrations.list(vmi["metadata"]["namespace"])
            if is_of_instance(one, vmi)
            and phase_of_migration(one) == "Failed"
            and (one["metadata"].get("annotations") or {}).get(EVACUATION) == host
        ]
        if not failed:
            return 0.0
        last = max(parse_time(one["status"]["phaseTransitionTimestamps"][-1]["phaseTransitionTimestamp"]) for one in failed)
        pause_s = min(_LONGEST_BACKOFF_S, _BACKOFF_S * len(failed) ** 2)
        return (last + timedelta(seconds=pause_s) - utc_now()).total_seconds()
