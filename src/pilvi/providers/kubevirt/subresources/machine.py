"""What is done to a VirtualMachine: start, stop, restart, migrate, expand-spec."""

from __future__ import annotations

import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from pilvi.api import JsonObject, Key
from pilvi.errors import BadRequest, Conflict, NotFound, format_chain
from pilvi.providers.aggregation import refusal
from pilvi.providers.kubevirt.instancetype.choice import Choices, Unsettled
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES, MIGRATIONS
from pilvi.providers.kubevirt.migration.queue import find_unfinished
from pilvi.providers.kubevirt.subresources.attempts import write_planned
from pilvi.providers.kubevirt.subresources.lifecycle import Change, plan_restart, plan_start, plan_stop
from pilvi.providers.kubevirt.subresources.objects import Objects, key_of, phase_of
from pilvi.providers.kubevirt.subresources.options import (
    MigrateOptions,
    RestartOptions,
    StartOptions,
    StopOptions,
    read_object,
    read_options,
)
from pilvi.runtime import is_controlled_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilvi.kube import Client

__all__ = ["MachineHandlers"]

# The controllers write statuses too; whoever loses a race looks again.


class MachineHandlers:
    """The handlers, by the names of the subresources."""

    def __init__(self, client: Client, objects: Objects) -> None:
        self._client = client
        self._objects = objects
        self._choices = Choices(client)

    async def start(self, request: web.Request) -> web.Response:
        """PUT start, StartOptions."""
        options = await read_options(request, StartOptions)
        return await self._change(key_of(request), lambda vm, vmi: plan_start(vm, vmi, options), dry_run=options.is_dry)

    async def stop(self, request: web.Request) -> web.Response:
        """PUT stop, StopOptions."""
        options = await read_options(request, StopOptions)
        return await self._change(key_of(request), lambda vm, vmi: plan_stop(vm, vmi, options), dry_run=options.is_dry)

    async def restart(self, request: web.Request) -> web.Response:
        """PUT restart, RestartOptions."""
        options = await read_options(request, RestartOptions)
        return await self._change(key_of(request), lambda vm, vmi: plan_restart(vm, vmi, options), dry_run=options.is_dry)

    async def migrate(self, request: web.Request) -> web.Response:
        """PUT migrate, MigrateOptions: makes a VirtualMachineInstanceMigration."""
        options = await read_options(request, MigrateOptions)
        key = key_of(request)
        await self._objects.get_machine(key)
        vmi = await self._objects.get_instance(key)
        why = "VM is not running" if phase_of(vmi) != "Running" else ""
        if not why and find_unfinished(vmi, await self._client.list(MIGRATIONS, namespace=key.namespace)):
            why = "in-flight migration detected"
        if why:
            raise refusal(Conflict, f"Operation cannot be fulfilled on {key.name}: {why}", resource="virtualmachine", name=key.name)
        spec: JsonObject = {"vmiName": key.name}
        if options.added_node_selector:
            spec["addedNodeSelector"] = options.added_node_selector
        metadata = {"generateName": "kubevirt-migrate-vm-", "namespace": key.namespace}
        await self._client.create(MIGRATIONS, {"metadata": metadata, "spec": spec}, dry_run=options.is_dry)
        return web.Response(status=HTTPStatus.ACCEPTED)

    async def expand_spec(self, request: web.Request) -> web.Response:
        """GET expand-spec: the machine with its instancetype and preference put in, and without their names."""
        return await self._expand(await self._objects.get_machine(key_of(request)))

    async def expand_given(self, request: web.Request) -> web.Response:
        """PUT expand-vm-spec: the same for a machine in the body."""
        vm = read_object(await request.read())
        if vm.get("kind") != MACHINES.kind or not isinstance(vm.get("metadata", {}), dict) or not isinstance(vm.get("spec"), dict):
            raise refusal(BadRequest, "the body is no VirtualMachine: it needs kind and spec")
        namespace = request.match_info["namespace"]
        if vm.get("metadata", {}).get("namespace", namespace) != namespace:
            raise refusal(BadRequest, f"the machine's namespace has to be {namespace}, as in the path, or left out")
        return await self._expand({**vm, "metadata": {**vm.get("metadata", {}), "namespace": namespace}})

    async def _expand(self, vm: JsonObject) -> web.Response:
        try:
            return _json(await self._choices.expand_machine(vm))
        except Unsettled as e:
            raise refusal(BadRequest, format_chain(e)) from e

    async def _change(self, key: Key, plan: Callable[[JsonObject, JsonObject | None], Change], *, dry_run: bool) -> web.Response:
        async def planned() -> tuple[JsonObject, JsonObject | None, Change]:
            vm = await self._objects.get_machine(key)
            vmi = await self._objects.find_instance(key)
            if vmi is not None and not is_controlled_by(vmi, vm):
                vmi = None
            return vm, vmi, plan(vm, vmi)

        await write_planned(planned, lambda found: self._write(*found, dry_run=dry_run))
        return web.Response(status=HTTPStatus.ACCEPTED)

    async def _write(self, vm: JsonObject, vmi: JsonObject | None, change: Change, *, dry_run: bool) -> None:
        key = Key.of(vm)
        guard = {"resourceVersion": vm["metadata"]["resourceVersion"]}
        if change.spec is not None:
            await self._client.patch(MACHINES, key, {"metadata": guard, "spec": change.spec}, dry_run=dry_run)
        if change.status is not None:
            body = {"metadata": guard, "status": change.status}
            await self._client.patch(MACHINES, key, body, subresource="status", dry_run=dry_run)
        if change.grace_s is not None and vmi is not None:
            # A stop that has begun already is cut short, since its grace is looked at all the time.
            body = {"metadata": {"uid": vmi["metadata"]["uid"]}, "spec": {"terminationGracePeriodSeconds": change.grace_s}}
            with contextlib.suppress(NotFound):  # it is gone, as was wanted
                await self._client.patch(INSTANCES, key, body, dry_run=dry_run)


def _json(obj: JsonObject) -> web.Response:
    return web.Response(body=msgspec.json.encode(obj), content_type="application/json")
