"""Disks that come to a machine and go from it: by its template, or for one run alone. Upstream: pkg/virt-api/rest/volumes.go."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.kubevirt.devices import Disk
from pilvi.errors import BadRequest, Conflict, UserError, format_chain
from pilvi.providers.aggregation import refusal
from pilvi.providers.kubevirt.instance.status import FIDELITY
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.kubevirt.machines.qemu.pluggable import check_pluggable
from pilvi.providers.kubevirt.subresources.attempts import write_planned
from pilvi.providers.kubevirt.subresources.objects import Objects, key_of, phase_of
from pilvi.providers.kubevirt.subresources.options import Options, read_options
from pilvi.providers.kubevirt.virtualmachine.liveupdate import ADDED_VOLUMES, added_volumes, is_hotpluggable
from pilvi.providers.status import merge_patch
from pilvi.runtime import find_condition, is_controlled_by

if TYPE_CHECKING:
    from pilvi.kube import Client

__all__ = ["AddVolumeOptions", "RemoveVolumeOptions", "VolumeHandlers", "plan_addition", "plan_removal"]

_SOURCES = ("dataVolume", "persistentVolumeClaim")


class AddVolumeOptions(Options, frozen=True, kw_only=True):
    """`disk` is an entry of `domain.devices.disks`, `volume_source` the source of a volume: a DataVolume or a claim."""

    name: str = ""
    disk: dict[str, Any] | None = None
    volume_source: dict[str, dict[str, Any] | None] | None = None


class RemoveVolumeOptions(Options, frozen=True, kw_only=True):
    """`name` is the volume's, or that of its claim or DataVolume."""

    name: str = ""


class VolumeHandlers:
    """The handlers, by the names of the subresources and what they are of."""

    def __init__(self, client: Client, objects: Objects) -> None:
        self._client = client
        self._objects = objects

    async def add_to_machine(self, request: web.Request) -> web.Response:
        """PUT addvolume of a VirtualMachine: its template gets the volume, and what runs follows."""
        options = await _read_addition(request)
        return await self._change_machine(request, lambda spec: plan_addition(spec, options), dry_run=options.is_dry)

    async def remove_from_machine(self, request: web.Request) -> web.Response:
        """PUT removevolume of a VirtualMachine."""
        options = await _read_removal(request)
        return await self._change_machine(request, lambda spec: plan_removal(spec, options.name), dry_run=options.is_dry)

    async def add_to_instance(self, request: web.Request) -> web.Response:
        """PUT addvolume of a VirtualMachineInstance: until it ends."""
        options = await _read_addition(request)

        def plan(vmi: JsonObject, _vm: JsonObject | None) -> JsonObject:
            held = {entry["name"] for entry in (vmi.get("status") or {}).get("volumeStatus") or []}
            spec = plan_addition(vmi["spec"], options)
            if options.name in held:
                raise UserError(f"Unable to add volume [{options.name}] because the guest has not let go of the last one of that name")
            return _instance_patch(vmi, spec, [*added_volumes(vmi), options.name])

        return await self._change_instance(request, plan, dry_run=options.is_dry)

    async def remove_from_instance(self, request: web.Request) -> web.Response:
        """PUT removevolume of a VirtualMachineInstance. What its machine has in its template would come back at once."""
        options = await _read_removal(request)

        def plan(vmi: JsonObject, vm: JsonObject | None) -> JsonObject:
            spec = plan_removal(vmi["spec"], options.name)
            names = {volume["name"] for volume in spec["volumes"]}
            template = ((vm or {}).get("spec") or {}).get("template") or {}
            gone = {volume["name"] for volume in vmi["spec"]["volumes"]} - names
            if gone & {volume["name"] for volume in (template.get("spec") or {}).get("volumes") or []}:
                raise UserError(
                    f"Unable to remove volume [{options.name}] because the VirtualMachine has it too",
                    hint="virtctl removevolume --persist takes it from both",
                )
            return _instance_patch(vmi, spec, [name for name in added_volumes(vmi) if name in names])

        return await self._change_instance(request, plan, dry_run=options.is_dry)

    async def _change_machine(self, request: web.Request, plan: Callable[[JsonObject], JsonObject], *, dry_run: bool) -> web.Response:
        key = key_of(request)

        async def change() -> tuple[JsonObject, JsonObject]:
            vm = await self._objects.get_machine(key)
            has = (vm["spec"].get("template") or {}).get("spec") or {}
            wanted = _refused(MACHINES, vm, lambda: plan(has))
            return vm, {"spec": {"template": {"spec": merge_patch(has, wanted)}}}

        return await self._write(MACHINES, change, dry_run=dry_run)

    async def _change_instance(
        self, request: web.Request, plan: Callable[[JsonObject, JsonObject | None], JsonObject], *, dry_run: bool
    ) -> web.Response:
        key = key_of(request)

        async def change() -> tuple[JsonObject, JsonObject]:
            vmi = await self._objects.get_instance(key)
            vm = await self._objects.find_machine(key)
            if vm is not None and not is_controlled_by(vmi, vm):
                vm = None

            def checked() -> JsonObject:
                if phase_of(vmi) != "Running":
                    raise UserError("VMI is not running")
                if (find_condition(vmi, FIDELITY) or {}).get("reason") == "Sandbox":
                    raise UserError("the machine is a sandbox, which has no disks")
                return plan(vmi, vm)

            return vmi, _refused(INSTANCES, vmi, checked)

        return await self._write(INSTANCES, change, dry_run=dry_run)

    async def _write(self, resource: Resource, change: Callable[[], Any], *, dry_run: bool) -> web.Response:
        async def write(planned: tuple[JsonObject, JsonObject]) -> None:
            obj, patch = planned
            guard = {**patch.get("metadata", {}), "resourceVersion": obj["metadata"]["resourceVersion"]}
            await self._client.patch(resource, Key.of(obj), {**patch, "metadata": guard}, dry_run=dry_run)

        await write_planned(change, write)
        return web.Response(status=HTTPStatus.ACCEPTED)


def plan_addition(spec: JsonObject, options: AddVolumeOptions) -> JsonObject:
    """An instance's specification with the volume and its disk. Raises UserError when it has the one or its claim already."""
    volume = {"name": options.name, **(options.volume_source or {})}
    claim = find_claim(volume)
    for other in spec.get("volumes") or []:
        if other["name"] == options.name:
            raise UserError(f"Unable to add volume [{options.name}] because volume with that name already exists")
        found = find_claim(other)
        if claim is not None and found is not None and found.name == claim.name:
            raise UserError(f"Unable to add volume source [{claim.name}] because it already exists")
    disk = {**(options.disk or {}), "name": options.name}
    return _with(spec, [*(spec.get("volumes") or []), volume], [*_disks(spec), disk])


def plan_removal(spec: JsonObject, name: str) -> JsonObject:
    """The specification without the volume of that name, or of that claim. Raises UserError when it has none, or one that stays."""
    volumes = spec.get("volumes") or []
    found = next((volume for volume in volumes if volume["name"] == name), None)
    if found is None:
        found = next((volume for volume in volumes if (claim := find_claim(volume)) is not None and claim.name == name), None)
    if found is None:
        raise UserError(f"Unable to remove volume [{name}] because it does not exist")
    if found.get("memoryDump"):
        raise UserError(f"Unable to remove volume [{found['name']}] because it is a memory dump", hint="virtctl memory-dump remove")
    if not is_hotpluggable(found):
        raise UserError(f"Unable to remove volume [{found['name']}] because it is not hotpluggable")
    left = [volume for volume in volumes if volume is not found]
    return _with(spec, left, [disk for disk in _disks(spec) if disk["name"] != found["name"]])


async def _read_addition(request: web.Request) -> AddVolumeOptions:
    options = await read_options(request, AddVolumeOptions)
    if not options.name:
        raise refusal(BadRequest, "AddVolumeOptions requires name to be set")
    if options.disk is None:
        raise refusal(BadRequest, "AddVolumeOptions requires disk to not be nil")
    source = {kind: given for kind, given in (options.volume_source or {}).items() if given is not None}
    if len(source) != 1 or not source.keys() <= set(_SOURCES):
        raise refusal(BadRequest, f"AddVolumeOptions requires volumeSource with one of {' and '.join(_SOURCES)}")
    ((kind, given),) = source.items()
    if not given.get("name" if kind == "dataVolume" else "claimName"):
        raise refusal(BadRequest, f"volumeSource.{kind} of AddVolumeOptions names nothing")
    disk = {**options.disk, "name": options.name}
    if not any(disk.get(target) for target in ("disk", "lun", "cdrom")):
        disk["disk"] = {"bus": "scsi"}
    try:
        msgspec.convert(disk, Disk)
        check_pluggable(disk)
    except msgspec.ValidationError as e:
        raise refusal(BadRequest, f"disk of AddVolumeOptions is not understood: {e}") from e
    except UserError as e:
        raise refusal(BadRequest, format_chain(e)) from e
    return msgspec.structs.replace(options, disk=disk, volume_source={kind: {**given, "hotpluggable": True}})


async def _read_removal(request: web.Request) -> RemoveVolumeOptions:
    options = await read_options(request, RemoveVolumeOptions)
    if not options.name:
        raise refusal(BadRequest, "RemoveVolumeOptions requires name to be set")
    return options


def _instance_patch(vmi: JsonObject, spec: JsonObject, added: list[str]) -> JsonObject:
    annotation = json.dumps(added) if added else None
    return {"metadata": {"annotations": {ADDED_VOLUMES: annotation}}, "spec": merge_patch(vmi["spec"], spec)}


def _refused(resource: Resource, obj: JsonObject, plan: Callable[[], JsonObject]) -> JsonObject:
    try:
        return plan()
    except UserError as e:
        name, kind = obj["metadata"]["name"], resource.kind.lower()
        message = f'Operation cannot be fulfilled on {kind}.kubevirt.io "{name}": {format_chain(e)}'
        raise refusal(Conflict, message, resource=kind, name=name) from e


def _with(spec: JsonObject, volumes: list[JsonObject], disks: list[JsonObject]) -> JsonObject:
    domain = spec.get("domain") or {}
    return {**spec, "volumes": volumes, "domain": {**domain, "devices": {**(domain.get("devices") or {}), "disks": disks}}}


def _disks(spec: JsonObject) -> list[JsonObject]:
    return ((spec.get("domain") or {}).get("devices") or {}).get("disks") or []
