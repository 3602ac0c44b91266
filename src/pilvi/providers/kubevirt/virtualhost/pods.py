"""The kubelet's duties for Pods on the virtual hosts that stand for no machine: say that nothing runs them, and let them end.

A Pod that tolerates every taint may be bound to the host, and a virt-launcher Pod may outlive its instance. Without a kubelet the
first would be pending for ever, and both would never finish their deletion.
"""

from __future__ import annotations

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import PODS
from pilvi.providers.kubevirt.instance.pod import CREATED_BY
from pilvi.providers.kubevirt.kinds import INSTANCES
from pilvi.providers.kubevirt.virtualhost.hosts import Hosts
from pilvi.providers.platform import Platform
from pilvi.providers.status import write_status
from pilvi.runtime import Done, Result, is_deleting

__all__ = ["StrayPods"]

_REFUSAL = "MachinesOnly"
_MESSAGE = (
    "this host runs machines only, no containers; run the Pod in a tenant cluster, or remove its toleration of pilvi.dev/machines-only"
)


class StrayPods:
    """The reconciler of Pods bound to `hosts` that are no machine's."""

    def __init__(self, platform: Platform, hosts: Hosts) -> None:
        self._client = platform.client
        self._events = platform.events
        self._pods = platform.informers.get(PODS)
        self._instances = platform.informers.get(INSTANCES)
        self._instances.add_index("uid", lambda vmi: [vmi["metadata"]["uid"]])
        self._hosts = hosts

    async def reconcile(self, key: Key) -> Result:
        """One pass; a machine's Pod is the instance controller's."""
        pod = self._pods.get(key)
        if pod is None or not self._hosts.owns(pod["spec"].get("nodeName")) or self._has_machine(pod):
            return Done()
        if is_deleting(pod):
            await self._client.ensure_absent(PODS, key, uid=pod["metadata"]["uid"], grace_s=0)
        elif (pod.get("status") or {}).get("phase") not in ("Failed", "Succeeded") and CREATED_BY not in (
            pod["metadata"].get("labels") or {}
        ):
            await write_status(
                self._client, PODS, pod, {**(pod.get("status") or {}), "phase": "Failed", "reason": _REFUSAL, "message": _MESSAGE}
            )
            self._events.record(pod, "Warning", _REFUSAL, _MESSAGE)
        return Done()

    def _has_machine(self, pod: JsonObject) -> bool:
        uid = (pod["metadata"].get("labels") or {}).get(CREATED_BY)
        return uid is not None and bool(self._instances.by_index("uid", uid))
