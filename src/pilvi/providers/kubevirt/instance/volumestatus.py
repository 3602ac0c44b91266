"""`status.volumeStatus` of an instance: what each of its volumes is, and how far those are that come and go. Pure.

Phases, reasons and messages are KubeVirt's (pkg/virt-controller/watch/vmi, pkg/virt-handler). There is no step between AttachedToNode and
Ready here, since no directory has to be mounted into a Pod.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pilvi.api.resource import JsonObject
from pilvi.providers.kubevirt.instance.attachments import Attached
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.providers.kubevirt.machines.backend import DiskState, MachineState

__all__ = ["find_arrived", "plan_volume_status"]

_HOTPLUG = ("hotplugVolume", "phase", "reason", "message")


def plan_volume_status(
    vmi: JsonObject,
    machine: MachineState,
    attached: Attached,
    get_claim: Callable[[str], JsonObject | None],
    dumps: Mapping[str, JsonObject] | None = None,
) -> list[JsonObject]:
    """One entry for each volume, and for each that the guest has not let go of yet. `get_claim` gives a claim of the namespace by name.

    `dumps` says of the volumes that the memory is written to what is to be said of each, also of those that are still being let go.
    """
    dumps = dumps or {}
    disks = {disk.name: disk for disk in machine.disks or ()}
    before = {entry["name"]: entry for entry in (vmi.get("status") or {}).get("volumeStatus") or []}
    entries = []
    volumes = vmi["spec"].get("volumes") or []
    for volume in volumes:
        name = volume["name"]
        disk = disks.get(name)
        entry: JsonObject = {"name": name, "target": disk.target if disk is not None else ""}
        if disk is not None and disk.size_bytes is not None:
            entry["size"] = disk.size_bytes
        named = find_claim(volume)
        claim = get_claim(named.name) if named is not None else None
        if claim is not None:
            entry["persistentVolumeClaimInfo"] = _claim_info(claim)
        if name in dumps:
            entry |= dumps[name]
        elif named is not None and named.hotpluggable:
            # Where nobody has looked yet, as after a start of the engine, what was true is true.
            entry |= _hotplug(name, disk, attached, claim) if machine.disks is not None else _kept(before.get(name, {}), _HOTPLUG)
        entries.append(entry)
    names = {volume["name"] for volume in volumes}
    entries += [{**before.get(name, {"name": name, "target": ""}), **entry} for name, entry in dumps.items() if name not in names]
    return [*entries, *_detaching({*names, *dumps}, machine, before)]


def find_arrived(vmi: JsonObject, entries: list[JsonObject]) -> list[JsonObject]:
    """The entries of `plan_volume_status` whose disk the guest sees now and did not before."""
    before = {entry["name"]: entry.get("phase") for entry in (vmi.get("status") or {}).get("volumeStatus") or []}
    return [entry for entry in entries if entry.get("phase") == "Ready" and before.get(entry["name"]) != "Ready"]


def _hotplug(name: str, disk: DiskState | None, attached: Attached, claim: JsonObject | None) -> JsonObject:
    pod = attached.pods.get(name)
    metadata = pod["metadata"] if pod is not None else {}
    found = {"attachPodName": metadata.get("name"), "attachPodUID": metadata.get("uid")}
    common: JsonObject = {"hotplugVolume": {key: value for key, value in found.items() if value}}
    if disk is not None and disk.attached and not disk.detaching:
        return {
            **common,
            "phase": "Ready",
            "reason": "VolumeReady",
            "message": disk.message or f"Successfully attach hotplugged volume {name} to VM",
        }
    if name in attached.waiting:
        reason, message = attached.waiting[name]
        bound = ((claim or {}).get("status") or {}).get("phase") == "Bound"
        return {**common, "phase": "Bound" if bound else "Pending", "reason": reason, "message": message}
    if disk is not None and disk.message:
        return {**common, "phase": "AttachedToNode", "reason": "AttachFailed", "message": disk.message}
    return {**common, "phase": "AttachedToNode", "reason": "AttachedToNode", "message": f"volume {name} is about to be attached"}


def _detaching(wanted: set[str], machine: MachineState, before: dict[str, JsonObject]) -> Iterator[JsonObject]:
    if machine.disks is None:
        # Nobody has looked yet: what was detaching still is, as far as anybody knows.
        yield from (entry for name, entry in before.items() if name not in wanted and machine.phase != "absent")
        return
    for disk in machine.disks:
        if disk.attached and disk.name not in wanted:
            kept = _kept(before.get(disk.name, {}), ("target", "size", "hotplugVolume", "persistentVolumeClaimInfo"))
            message = "the guest has not let go of the disk yet; unmount it there, and see that the guest runs"
            yield {"target": "", **kept, "name": disk.name, "phase": "Detaching", "reason": "GuestHoldsDisk", "message": message}


def _kept(entry: JsonObject, fields: tuple[str, ...]) -> JsonObject:
    return {name: entry[name] for name in fields if name in entry}


def _claim_info(claim: JsonObject) -> JsonObject:
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    info = {
        "claimName": claim["metadata"]["name"],
        "accessModes": spec.get("accessModes"),
        "volumeMode": spec.get("volumeMode"),
        "capacity": status.get("capacity"),
        "requests": (spec.get("resources") or {}).get("requests"),
        # The disk is the whole volume, in both modes.
        "filesystemOverhead": "0",
    }
    return {key: value for key, value in info.items() if value}
