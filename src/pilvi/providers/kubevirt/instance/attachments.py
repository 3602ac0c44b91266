"""Disks that can come and go while their machine runs: their Pods, what of them can be attached now, and what is still awaited."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import PODS
from pilvi.errors import AlreadyExists, Forbidden, Invalid, UserError, format_chain
from pilvi.providers.kubevirt.instance.attachment import new_attachment, volume_of
from pilvi.providers.kubevirt.instance.pod import CREATED_BY, plan_pod_status
from pilvi.providers.kubevirt.instance.scope import Scope
from pilvi.providers.kubevirt.instance.volumes.claim import NamedClaim, find_claim
from pilvi.providers.kubevirt.instance.volumes.claims import ClaimDisks
from pilvi.providers.kubevirt.instance.volumes.ready import VolumeNotReady
from pilvi.providers.kubevirt.machines.backend import MachineState
from pilvi.providers.kubevirt.machines.volumes import MachineVolume, VolumeDisk
from pilvi.providers.status import write_status
from pilvi.runtime import find_condition, is_deleting, merge_conditions

if TYPE_CHECKING:
    from pilvi.providers.kubevirt.virtualhost.hosts import Hosts
    from pilvi.providers.platform import Platform

__all__ = ["Attached", "Attachments", "in_order"]


@dataclass(frozen=True)
class Attached:
    """`disks` can be given to the machine. `waiting` says of the others, by name, why they cannot yet: a word and a sentence.

    `dumps` are those that the memory is written to, and no disks of the machine. `pods` are those of all, by the volume's name. `soon`:
    one waits for nothing but its Pod, which takes no time worth a start without it.
    """

    disks: tuple[VolumeDisk, ...] = ()
    waiting: dict[str, tuple[str, str]] = field(default_factory=dict)
    pods: dict[str, JsonObject] = field(default_factory=dict)
    soon: bool = False
    dumps: dict[str, VolumeDisk] = field(default_factory=dict)


class Attachments:
    """Makes and removes the Pods, and is their kubelet. `hosts` are those that it acts for.

    A Pod stays where it is when its machine moves: what it holds is the claim, and every host reaches every disk.
    """

    def __init__(self, platform: Platform, hosts: Hosts, claims: ClaimDisks) -> None:
        self._cloud = platform.cloud
        self._client = platform.client
        self._hosts = hosts
        self._claims = claims
        self._pods = platform.informers.get(PODS)
        self._pods.add_index("attachments", _machine_of)

    async def ensure(self, scope: Scope) -> Attached:
        """Have a Pod for each such volume of the instance, and resolve those that can be attached. Raises as every request."""
        found = {name: pod for pod in self._list(scope) if (name := volume_of(pod)) is not None}
        disks: list[VolumeDisk] = []
        dumps: dict[str, VolumeDisk] = {}
        waiting: dict[str, tuple[str, str]] = {}
        soon = False
        for volume in scope.vmi["spec"].get("volumes") or []:
            claim = find_claim(volume)
            if claim is None or not claim.hotpluggable:
                continue
            name = str(volume["name"])
            pod = found.get(name)
            if pod is None:
                made = await self._make(scope, name, claim)
                if isinstance(made, str):
                    waiting[name] = ("FailedCreate", made)
                    continue
                pod = found[name] = made
            try:
                disk = self._claims.resolve(scope, name, claim)
            except VolumeNotReady as e:
                waiting[name] = (e.reason, format_chain(e))
                continue
            except UserError as e:
                waiting[name] = ("InvalidVolume", format_chain(e))
                continue
            if self._hosts.owns(pod["spec"].get("nodeName")):
                await self._report(pod)
                if claim.dump:
                    dumps[name] = disk
                else:
                    disks.append(disk)
            else:
                refused = find_condition(pod, "PodScheduled") or {}
                waiting[name] = (refused.get("reason") or "PodNotReady", refused.get("message") or "its Pod is not scheduled yet")
                soon = soon or not (refused or claim.dump)
        return Attached(tuple(disks), waiting, found, soon, dumps)

    async def release(self, scope: Scope, attached: Attached, machine: MachineState, written: Collection[str] = ()) -> None:
        """Remove the Pods of volumes that the instance has no longer, as soon as the guest has let go of their disks.

        `written` are those to which its memory is being written still.
        """
        if machine.disks is None:
            return
        wanted = {volume["name"] for volume in scope.vmi["spec"].get("volumes") or []}
        held = {*written, *(disk.name for disk in machine.disks if disk.attached)}
        await self._remove(pod for name, pod in attached.pods.items() if name not in wanted and name not in held)

    async def remove(self, scope: Scope) -> None:
        """Remove all: the machine has ended."""
        await self._remove(self._list(scope))

    def _list(self, scope: Scope) -> list[JsonObject]:
        return self._pods.by_index("attachments", scope.uid)

    async def _remove(self, pods: Iterable[JsonObject]) -> None:
        for pod in list(pods):
            await self._client.ensure_absent(PODS, Key.of(pod), uid=pod["metadata"]["uid"], grace_s=0)

    async def _make(self, scope: Scope, name: str, claim: NamedClaim) -> JsonObject | str:
        host = ((scope.pod or {}).get("spec") or {}).get("nodeName") or self._hosts.wanted[0]
        pod = new_attachment(scope.vmi, name, claim, host)
        try:
            return await self._client.create(PODS, pod)
        except AlreadyExists:
            return pod  # not in the cache yet
        except (Forbidden, Invalid) as e:
            return f"the Pod for it cannot be made: {format_chain(e)}"

    async def _report(self, pod: JsonObject) -> None:
        if is_deleting(pod):
            return
        old = pod.get("status") or {}
        status = plan_pod_status(
            pod,
            phase="Running",
            address=None,
            started_at=pod["metadata"].get("creationTimestamp"),
            ready=True,
            message="",
            host=str(self._cloud.host_address.ip),
        )
        conditions = merge_conditions(old.get("conditions"), status.pop("conditions"))
        await write_status(self._client, PODS, pod, {**old, **status, "conditions": conditions})


def in_order(vmi: JsonObject, volumes: Iterable[MachineVolume]) -> tuple[MachineVolume, ...]:
    """The volumes in the order of the specification."""
    order = {volume["name"]: number for number, volume in enumerate(vmi["spec"].get("volumes") or [])}
    return tuple(sorted(volumes, key=lambda volume: order[volume.name]))


def _machine_of(pod: JsonObject) -> list[str]:
    return [(pod["metadata"].get("labels") or {}).get(CREATED_BY, "")] if volume_of(pod) is not None else []
