"""What a claim shall hold, found through DataVolumes, DataSources, claims, snapshots and the Secrets that they name.

The source is read from the DataVolume that controls the claim, or from what its dataSourceRef names in its own namespace, and never from
annotations: an admission policy has checked who may copy from which namespace, and only those objects have passed it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.cdi import (
    DataSource,
    DataSourceSource,
    DataVolume,
    DataVolumeSpec,
    HttpSource,
    ImportSource,
    NamedSource,
    RegistrySource,
    VolumeCloneSource,
    VolumeImportSource,
)
from pilvi.api.object import decode
from pilvi.errors import UserError
from pilvi.images import Credentials, parse_reference
from pilvi.lib.quantity import quantity_bytes
from pilvi.providers.cdi.config import Configuration
from pilvi.providers.cdi.kinds import (
    CLAIMS,
    CLONE_SOURCES,
    CONFIG_MAPS,
    DATA_SOURCES,
    DATA_VOLUMES,
    IMPORT_SOURCES,
    PODS,
    SECRETS,
    SNAPSHOT_CONTENTS,
    SNAPSHOTS,
    UPLOAD_SOURCES,
    VOLUMES,
)
from pilvi.providers.cdi.population.work import Blank, Copy, Download, Pull, Source, Upload
from pilvi.providers.claims import find_volume, is_populated, uses_claim, volume_file
from pilvi.providers.platform import Platform
from pilvi.runtime import controller_of
from pilvi.transfer import HttpSource as WebSource
from pilvi.transfer import parse_checksum

__all__ = ["Disk", "Missing", "Sources", "find_disk_reference", "reference_of"]

LONGEST_CHAIN = 8
_HEADER = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[^\r\n\0]*)")


@dataclass(frozen=True)
class Missing:
    """Why there is no source now; `reason` as in a condition, `message` with the next step."""

    reason: str
    message: str


@dataclass(frozen=True)
class Disk:
    """A disk that can be copied: its file, its size, and the volume mode of the claim that it was made for."""

    file: Path
    size_bytes: int
    mode: str
    name: str


DiskReference: TypeAlias = tuple[Resource, Key]
"""CLAIMS or SNAPSHOTS, and which."""


class Sources:
    """Finds sources. Reads caches, and asks the API for what is not cached: Secrets and ConfigMaps."""

    def __init__(self, platform: Platform, configuration: Configuration) -> None:
        self._cloud = platform.cloud
        self._images = platform.images
        self._client = platform.client
        self._configuration = configuration
        informers = platform.informers
        self._claims = informers.get(CLAIMS)
        self._volumes = informers.get(VOLUMES)
        self._pods = informers.get(PODS)
        self._snapshots = informers.get(SNAPSHOTS)
        self._contents = informers.get(SNAPSHOT_CONTENTS)
        self._data_volumes = informers.get(DATA_VOLUMES)
        self._data_sources = informers.get(DATA_SOURCES)
        self._imports = informers.get(IMPORT_SOURCES)
        self._clones = informers.get(CLONE_SOURCES)
        self._uploads = informers.get(UPLOAD_SOURCES)

    async def find(self, claim: JsonObject) -> Source | Missing:
        """What the claim shall hold. Raises UserError for a source that is wrong in itself."""
        namespace = claim["metadata"]["namespace"]
        owner = controller_of(claim)
        if owner is not None and owner["kind"] == DATA_VOLUMES.kind:
            data_volume = self._data_volumes.get(Key(namespace, owner["name"]))
            if data_volume is None or data_volume["metadata"]["uid"] != owner["uid"]:
                return Missing("NotFound", f"the DataVolume {owner['name']} of the claim is gone; delete the claim")
            spec = decode(DataVolume, data_volume).spec
            reference = find_disk_reference(spec, namespace)
            if reference is not None:
                return self._copy(reference)
            if spec.source is not None and spec.source.upload is not None:
                return Upload()
            return await self._import(spec.source or ImportSource(), namespace)
        named = claim["spec"].get("dataSourceRef") or {}
        key = Key(namespace, named.get("name", ""))
        absent = Missing("NotFound", f"there is no {named.get('kind')} {key.name} in namespace {namespace}; create it")
        if named.get("kind") == IMPORT_SOURCES.kind:
            found = self._imports.get(key)
            return await self._import(decode(VolumeImportSource, found).spec.source or ImportSource(), namespace) if found else absent
        if named.get("kind") == UPLOAD_SOURCES.kind:
            return Upload() if self._uploads.get(key) is not None else absent
        if named.get("kind") == CLONE_SOURCES.kind:
            found = self._clones.get(key)
            if found is None:
                return absent
            source = decode(VolumeCloneSource, found).spec.source
            kind = SNAPSHOTS if source.kind == SNAPSHOTS.kind else CLAIMS
            return self._copy((kind, Key(namespace, source.name)))
        raise UserError(
            f"a claim cannot be filled from a {named.get('kind')}",
            hint="name a VolumeImportSource, VolumeCloneSource or VolumeUploadSource",
        )

    def find_disk(self, reference: DiskReference) -> Disk | Missing:
        """The disk of a claim, a snapshot, or the one that a DataSource stands for."""
        resource, key = reference
        for _ in range(LONGEST_CHAIN):
            if resource == CLAIMS:
                return self._claim_disk(key)
            if resource == SNAPSHOTS:
                return self._snapshot_disk(key)
            found = self._data_sources.get(key)
            if found is None:
                return Missing("NotFound", f"there is no DataSource {key}; create it, or name another")
            source = decode(DataSource, found).spec.source
            target = find_target(source.pvc, source.snapshot, source.data_source)
            if target is None:
                return Missing("NoSource", f"DataSource {key} names no disk yet; set its spec.source")
            resource, key = target
        return Missing("MaxDepthExceeded", f"DataSources refer to each other in circles or {LONGEST_CHAIN} deep, at {key}")

    def in_use(self, reference: DiskReference) -> str | None:
        """The Pod that may write to the disk of a claim, if there is one."""
        resource, key = reference
        if resource != CLAIMS:
            return None
        for pod in self._pods.list(key.namespace):
            if uses_claim(pod, key.name):
                return str(pod["metadata"]["name"])
        return None

    def waiting_for(self, resource: Resource, key: Key) -> list[Key]:
        """DataVolumes, and so claims, that are not filled yet and are copies of this claim or snapshot."""
        found = [Key.of(entry) for entry in self._data_volumes.list() if self._copies(entry, (resource, key))]
        for clone in self._clones.list(key.namespace):
            source = (clone.get("spec") or {}).get("source") or {}
            if (source.get("kind"), source.get("name")) == (resource.kind, key.name):
                found += [
                    Key.of(claim)
                    for claim in self._claims.list(key.namespace)
                    if reference_of(claim) == (CLONE_SOURCES.kind, clone["metadata"]["name"])
                ]
        return found

    def _copies(self, data_volume: JsonObject, reference: DiskReference) -> bool:
        if (data_volume.get("status") or {}).get("phase") == "Succeeded" or not data_volume.get("spec"):
            return False
        copied = find_disk_reference(decode(DataVolume, data_volume).spec, data_volume["metadata"]["namespace"])
        return copied is not None and self.last(copied) == reference

    def _copy(self, reference: DiskReference) -> Source | Missing:
        final = self.last(reference)
        disk = self.find_disk(final)
        if isinstance(disk, Missing):
            return disk
        if pod := self.in_use(final):
            return Missing("CloneSourceInUse", f"claim {final[1]} is in use by Pod {pod}; stop the machine, and the copy is made")
        return Copy(disk.file, disk.name)

    def last(self, reference: DiskReference) -> DiskReference:
        """The claim or snapshot at the end of a chain of DataSources, as far as it can be followed."""
        for _ in range(LONGEST_CHAIN):
            found = self._data_sources.get(reference[1]) if reference[0] == DATA_SOURCES else None
            if found is None:
                break
            # Asked at every event of a claim, so an object without specification must not raise.
            source = msgspec.convert((found.get("spec") or {}).get("source") or {}, DataSourceSource)
            reference = find_target(source.pvc, source.snapshot, source.data_source) or reference
        return reference

    def _claim_disk(self, key: Key) -> Disk | Missing:
        claim = self._claims.get(key)
        if claim is None:
            return Missing("CloneSourceNotFound", f"there is no claim {key} to copy; create it, or name another")
        volume = self._volumes.get(Key("", claim["spec"].get("volumeName") or ""))
        status = claim.get("status") or {}
        if status.get("phase") != "Bound" or volume is None or not is_populated(claim):
            return Missing("CloneSourceNotReady", f"claim {key} is not bound, or not filled yet; it is copied when it is")
        holder = (volume["spec"].get("claimRef") or {}).get("uid")
        folder = find_volume(volume)
        if folder is None or holder != claim["metadata"]["uid"]:
            raise UserError(
                f"claim {key} is on a volume that pilvi has not made", hint="copy from a claim of one of pilvi's storage classes"
            )
        size = quantity_bytes(volume["spec"]["capacity"]["storage"])
        return Disk(volume_file(self._cloud, folder), size, claim["spec"].get("volumeMode") or "Filesystem", f"claim {key}")

    def _snapshot_disk(self, key: Key) -> Disk | Missing:
        snapshot = self._snapshots.get(key)
        if snapshot is None:
            return Missing("CloneSourceNotFound", f"there is no VolumeSnapshot {key} to copy; create it, or name another")
        status = snapshot.get("status") or {}
        name = status.get("boundVolumeSnapshotContentName")
        content = self._contents.get(Key("", name)) if name and status.get("readyToUse") else None
        if content is None:
            return Missing("CloneSourceNotReady", f"VolumeSnapshot {key} is not ready to use; it is copied when it is")
        folder = find_volume(content)
        holder = (content["spec"].get("volumeSnapshotRef") or {}).get("uid")
        if folder is None or holder != snapshot["metadata"]["uid"]:
            raise UserError(f"VolumeSnapshot {key} was not made by pilvi", hint="copy from a snapshot of one of pilvi's classes")
        mode = content["spec"].get("sourceVolumeMode") or "Filesystem"
        return Disk(volume_file(self._cloud, folder), quantity_bytes(status.get("restoreSize") or 0), mode, f"VolumeSnapshot {key}")

    async def _import(self, source: ImportSource, namespace: str) -> Source | Missing:
        if source.blank is not None:
            return Blank()
        if source.http is not None:
            return await self._download(source.http, namespace)
        if source.registry is not None:
            return await self.find_image(source.registry, namespace)
        raise UserError("nothing that can be imported is named", hint="write blank, http or registry below source")

    async def find_image(self, registry: RegistrySource, namespace: str) -> Pull | Missing:
        """The image that is named, and how to ask for it. Raises UserError when none is named."""
        scheme, _, name = (registry.url or "").partition("://")
        if scheme != "docker" or not name:
            raise UserError(f"{registry.url!r} names no container disk", hint="write docker:// and a reference, as docker://host/name:tag")
        login: Mapping[str, str] = {}
        if registry.secret_ref:
            secret = await self._client.find(SECRETS, Key(namespace, registry.secret_ref))
            if secret is None:
                return Missing("SecretNotFound", f"there is no Secret {registry.secret_ref} in namespace {namespace}; create it")
            login = {key: _decoded(value, registry.secret_ref) for key, value in (secret.get("data") or {}).items()}
        authorities = await self._authorities(registry.cert_config_map, namespace)
        if isinstance(authorities, Missing):
            return authorities
        credentials = Credentials(login.get("accessKeyId", ""), login.get("secretKey", ""), authorities)
        return Pull(self._images, parse_reference(name), credentials if login or authorities else None)

    async def _authorities(self, config_map: str | None, namespace: str) -> str | Missing:
        """The certificates that a ConfigMap holds, in PEM; none when none is named."""
        if not config_map:
            return ""
        found = await self._client.find(CONFIG_MAPS, Key(namespace, config_map))
        if found is None:
            return Missing("ConfigMapNotFound", f"there is no ConfigMap {config_map} in namespace {namespace}; create it")
        return "\n".join((found.get("data") or {}).values())

    async def _download(self, http: HttpSource, namespace: str) -> Source | Missing:
        secrets: list[Mapping[str, str]] = []
        for name in [*([http.secret_ref] if http.secret_ref else []), *http.secret_extra_headers]:
            secret = await self._client.find(SECRETS, Key(namespace, name))
            if secret is None:
                return Missing("SecretNotFound", f"there is no Secret {name} in namespace {namespace}; create it")
            secrets.append({key: _decoded(value, name) for key, value in (secret.get("data") or {}).items()})
        login = secrets.pop(0) if http.secret_ref else {}
        authorities = await self._authorities(http.cert_config_map, namespace)
        if isinstance(authorities, Missing):
            return authorities
        lines = [*http.extra_headers, *(line for secret in secrets for line in secret.values())]
        web = WebSource(
            url=http.url,
            headers=tuple(_header(line) for line in lines),
            user=login.get("accessKeyId", ""),
            password=login.get("secretKey", ""),
            authorities=authorities,
            verify=not http.insecure_skip_verify,
            proxies=self._configuration.proxies(),
        )
        return Download(web, parse_checksum(http.checksum) if http.checksum else None)


def find_disk_reference(spec: DataVolumeSpec, namespace: str) -> DiskReference | None:
    """The claim, snapshot or DataSource that a DataVolume of `namespace` copies; None when it copies nothing."""
    if spec.source_ref is not None:
        return DATA_SOURCES, Key(spec.source_ref.namespace or namespace, spec.source_ref.name)
    return find_target(spec.source.pvc, spec.source.snapshot, None) if spec.source is not None else None


def find_target(claim: NamedSource | None, snapshot: NamedSource | None, data_source: NamedSource | None) -> DiskReference | None:
    """The one that is given, None when none is."""
    for resource, named in ((CLAIMS, claim), (SNAPSHOTS, snapshot), (DATA_SOURCES, data_source)):
        if named is not None:
            return resource, Key(named.namespace, named.name)
    return None


def reference_of(claim: JsonObject) -> tuple[str | None, str | None]:
    """Kind and name of what a claim's dataSourceRef names; neither when it names nothing."""
    reference = (claim.get("spec") or {}).get("dataSourceRef") or {}
    return reference.get("kind"), reference.get("name")


def _header(line: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(line.strip())
    if match is None:
        raise UserError("an extra header is no header", hint="write each as `Name: value` on one line")
    return match["name"], match["value"]


def _decoded(value: str, secret: str) -> str:
    try:
        return base64.b64decode(value).decode().strip()
    except ValueError as e:
        raise UserError(f"Secret {secret} holds what is no text", hint="put user name, password and headers into it as text") from e
