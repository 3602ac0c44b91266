"""Makes exports ready: their claims where a snapshot is exported, their token, their status; and ends them in time.

Nothing but the objects knows of an export, so an engine that starts goes on where another one has died. The garbage collector takes what
was made for an export that is deleted.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.errors import AlreadyExists, Forbidden, Invalid, format_chain
from pilvi.lib.clock import utc_now
from pilvi.providers.claims import claims_of_pod
from pilvi.providers.kubevirt.export.contents import Contents, Held
from pilvi.providers.kubevirt.export.kinds import (
    CLAIMS,
    CONTENTS,
    EXPORTS,
    INSTANCES,
    MACHINES,
    PODS,
    SECRETS,
    SNAPSHOTS,
    VOLUME_SNAPSHOTS,
    VOLUMES,
)
from pilvi.providers.kubevirt.export.plan import end_of, find_token, secret_name, source_of, token_secret, url_of
from pilvi.providers.kubevirt.export.status import export_status, is_ready
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.providers.kubevirt.snapshot.plan import snapshot_key
from pilvi.providers.kubevirt.snapshot.volumes import volumes_of
from pilvi.providers.status import write_status
from pilvi.runtime import Controller, Done, RequeueAfter, Result, Waiting, Watch, is_controlled_by, is_deleting, no_keys

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Exports", "export_controller"]

LOOK_AGAIN_S = 15.0


class Exports:
    """The reconciler of VirtualMachineExports."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._client = platform.client
        self._events = platform.events
        self._exports = platform.informers.get(EXPORTS)
        self._secrets = platform.informers.get(SECRETS)
        self._contents = Contents(platform)

    async def reconcile(self, key: Key) -> Result:
        """One pass for the export `key`."""
        export = self._exports.get(key)
        if export is None or is_deleting(export):
            return Done()
        left_s = (end_of(export) - utc_now()).total_seconds()
        if left_s <= 0:
            await self._client.ensure_absent(EXPORTS, key, uid=export["metadata"]["uid"])
            return Done()
        refused = ""
        try:
            await self._make_claims(export)
        except (Forbidden, Invalid) as e:
            refused = f"a claim for the data of the snapshot cannot be made: {format_chain(e)}"
        held = self._contents.look(export)
        if refused and held.reason:
            told = {**held.told, "message": refused} if held.told else None
            held = Held(reason=held.reason, message=refused, told=told, machine=held.machine)
        secret = await self._secret(export, held)
        url = url_of(export, self._platform.cloud.platform_address.ip)
        has_token = find_token(secret) is not None
        status = export_status(export, held, has_token=has_token, url=url, authority=self._platform.authority)
        if is_ready(export) and status["phase"] != "Ready":
            self._events.record(export, "Warning", "ExportPaused", held.message or f"Secret {secret_name(export)} has no token any more")
        await write_status(self._client, EXPORTS, export, status)
        if status["phase"] == "Ready":
            return RequeueAfter(left_s)
        return Waiting("NotReady", held.message or "the token is awaited", min(left_s, LOOK_AGAIN_S))

    async def _make_claims(self, export: JsonObject) -> None:
        for claim in self._contents.missing_claims(export):
            with contextlib.suppress(AlreadyExists):  # the cache is behind, or it is somebody else's: the next look tells
                await self._client.create(CLAIMS, claim)

    async def _secret(self, export: JsonObject, held: Held) -> JsonObject | None:
        """The Secret with the token. One that nobody has named is made as soon as there is something to read with it."""
        key = Key(export["metadata"]["namespace"], secret_name(export))
        found = self._secrets.get(key)
        if found is not None or held.reason or export["spec"].get("tokenSecretRef"):
            return found
        try:
            made = await self._client.create(SECRETS, token_secret(export))
        except AlreadyExists:  # the cache is behind
            return await self._client.find(SECRETS, key)
        self._events.record(export, "Normal", "SecretCreated", f"Created default secret {key}")
        return made


def export_controller(platform: Platform) -> Controller:
    """The controller, with what wakes it."""
    exports, machines, claims = (platform.informers.get(resource) for resource in (EXPORTS, MACHINES, CLAIMS))

    def of_source(kind: str, key: Key) -> list[Key]:
        return [Key.of(export) for export in exports.list(key.namespace) if source_of(export) == (kind, key)]

    def of_claim(namespace: str, names: set[str]) -> list[Key]:
        """Exports of one of the claims, of a machine that has one of them, or of a snapshot that they are made from."""
        found = []
        for export in exports.list(namespace):
            kind, source = source_of(export)
            if kind == MACHINES.kind and (vm := machines.get(source)) is not None:
                used = {named.name for volume in volumes_of(vm) if (named := find_claim(volume)) is not None}
                concerned = bool(used & names)
            elif kind == SNAPSHOTS.kind:
                concerned = any(is_controlled_by(claim, export) for name in names if (claim := claims.get(Key(namespace, name))))
            else:
                concerned = source.name in names
            if concerned:
                found.append(Key.of(export))
        return found

    def of_pod(pod: JsonObject) -> list[Key]:
        return of_claim(pod["metadata"]["namespace"], claims_of_pod(pod))

    def of_volume(volume: JsonObject) -> list[Key]:
        reference = (volume.get("spec") or {}).get("claimRef") or {}
        return of_claim(reference.get("namespace") or "", {reference.get("name") or ""})

    def of_content(content: JsonObject) -> list[Key]:
        return of_source(SNAPSHOTS.kind, snapshot_key(content))

    def of_secret(secret: JsonObject) -> list[Key]:
        namespace, name = secret["metadata"]["namespace"], secret["metadata"]["name"]
        return [Key.of(export) for export in exports.list(namespace) if export.get("spec") and secret_name(export) == name]

    return Controller(
        "virtualmachineexport",
        EXPORTS,
        Exports(platform).reconcile,
        owns=[CLAIMS],
        watches=[
            Watch(CLAIMS, lambda claim: of_claim(claim["metadata"]["namespace"], {claim["metadata"]["name"]})),
            Watch(PODS, of_pod),
            Watch(MACHINES, lambda vm: of_source(MACHINES.kind, Key.of(vm))),
            Watch(INSTANCES, lambda vmi: of_source(MACHINES.kind, Key.of(vmi))),
            Watch(SNAPSHOTS, lambda snapshot: of_source(SNAPSHOTS.kind, Key.of(snapshot))),
            Watch(CONTENTS, of_content),
            Watch(SECRETS, of_secret),
            Watch(VOLUMES, of_volume),
            Watch(VOLUME_SNAPSHOTS, no_keys),
        ],
    )
