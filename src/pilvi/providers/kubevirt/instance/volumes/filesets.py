"""Volumes that a guest reads as a disc of files: configMap, secret, sysprep, downwardAPI, serviceAccount. Pure but for `FileDisks`.

Labels are KubeVirt's. A disc is made with its machine and stays as it is until the instance is made anew, as KubeVirt's does: an object
that changes or goes under a running machine changes nothing for it.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pilvi.api.builtin import CONFIG_MAPS, SECRETS
from pilvi.api.resource import JsonObject, Key, Resource
from pilvi.errors import NotFound, UserError
from pilvi.lib.quantity import parse_quantity
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.status import phase_of
from pilvi.providers.kubevirt.instance.volumes.ready import VolumeNotReady
from pilvi.providers.kubevirt.instance.volumes.serviceaccount import find_service_account
from pilvi.providers.kubevirt.machines.volumes import FilesDisk

if TYPE_CHECKING:
    from pilvi.kube import Client

__all__ = ["FileDisks", "NamedFiles", "downward_files", "find_named_files", "named_objects"]

LABEL = "cfgdata"
SYSPREP_LABEL = "unattendCD"
_ANSWERS = ("autounattend.xml", "unattend.xml")
_TOKEN_S = 365 * 24 * 3600
_KEYED = re.compile(r"metadata\.(?P<of>labels|annotations)\['(?P<key>[^']+)'\]")


@dataclass(frozen=True)
class NamedFiles:
    """The object whose keys are the files of a disc. `answers`: it has to hold an answer file of Windows."""

    resource: Resource
    name: str
    label: str = LABEL
    optional: bool = False
    answers: bool = False


def find_named_files(volume: JsonObject) -> NamedFiles | None:
    """The ConfigMap or Secret behind a volume; None for volumes of other kinds. Raises UserError that names the field."""
    if (source := volume.get("configMap")) is not None:
        found = NamedFiles(CONFIG_MAPS, source.get("name") or "", source.get("volumeLabel") or LABEL, bool(source.get("optional")))
    elif (source := volume.get("secret")) is not None:
        found = NamedFiles(SECRETS, source.get("secretName") or "", source.get("volumeLabel") or LABEL, bool(source.get("optional")))
    elif (source := volume.get("sysprep")) is not None:
        given = [
            NamedFiles(resource, (source[field] or {}).get("name") or "", SYSPREP_LABEL, answers=True)
            for field, resource in (("configMap", CONFIG_MAPS), ("secret", SECRETS))
            if source.get(field) is not None
        ]
        if len(given) != 1:
            raise UserError(f"spec.volumes[{volume['name']}].sysprep names {len(given)} objects", hint="name one of configMap and secret")
        found = given[0]
    else:
        return None
    if not found.name:
        raise UserError(f"spec.volumes[{volume['name']}] names no {found.resource.kind}", hint="write its name")
    return found


def named_objects(vmi: JsonObject) -> Iterator[tuple[Resource, str]]:
    """ConfigMaps and Secrets that discs of the instance are made from; what is wrong in itself is left to the instance's own pass."""
    for volume in (vmi.get("spec") or {}).get("volumes") or []:
        try:
            found = find_named_files(volume)
        except UserError:
            continue
        if found is not None:
            yield found.resource, found.name


def downward_files(volume: JsonObject, pod: JsonObject) -> dict[str, bytes]:
    """What a downwardAPI volume says of the machine's Pod. Formats are the kubelet's. Raises UserError that names the field."""
    files = {}
    for entry in volume["downwardAPI"].get("fields") or []:
        path = f"spec.volumes[{volume['name']}].downwardAPI.fields[{entry['path']}]"
        reference, resource = entry.get("fieldRef"), entry.get("resourceFieldRef")
        if (reference is None) == (resource is None):
            raise UserError(f"{path} has to have one of fieldRef and resourceFieldRef", hint="write one of them")
        files[entry["path"]] = (_field(path, reference["fieldPath"], pod) if reference else _resource(path, resource, pod)).encode()
    return files


class FileDisks:
    """Resolves volumes that are discs of files."""

    def __init__(self, client: Client, caches: Caches) -> None:
        self._client = client
        self._objects = {CONFIG_MAPS: caches.config_maps, SECRETS: caches.secrets}

    async def find(self, scope: Scope, volume: JsonObject) -> FilesDisk | None:
        """The disc; None for volumes of other kinds. One of a machine that has run has no files: it keeps those it has.

        Raises UserError for what a person must mend, VolumeNotReady for an object that is not there.
        """
        name = str(volume["name"])
        named = find_named_files(volume)
        if named is None and volume.get("downwardAPI") is None and volume.get("serviceAccount") is None:
            return None
        if phase_of(scope.vmi) == "Running" or scope.pod is None:
            return FilesDisk(name, LABEL, None)
        if named is not None:
            return FilesDisk(name, named.label, self._read(scope.key.namespace, name, named))
        if (source := volume.get("downwardAPI")) is not None:
            return FilesDisk(name, source.get("volumeLabel") or LABEL, downward_files(volume, scope.pod))
        account = find_service_account(scope.vmi["spec"]) or "default"
        return FilesDisk(name, LABEL, await self._service_account(Key(scope.key.namespace, account), scope.pod, name))

    def _read(self, namespace: str, volume: str, named: NamedFiles) -> dict[str, bytes]:
        key = Key(namespace, named.name)
        found = self._objects[named.resource].get(key)
        if found is None:
            if named.optional:
                return {}
            kind = named.resource.kind
            raise VolumeNotReady("FailedMount", f"{kind} {key} of volume {volume} does not exist; create it", failed=True)
        files = read_files(named.resource, found)
        if named.answers and not any(name.lower() in _ANSWERS for name in files):
            raise UserError(
                f"{named.resource.kind} {key} of volume {volume} has no answer file", hint=f"put it under the key {' or '.join(_ANSWERS)}"
            )
        return files

    async def _service_account(self, key: Key, pod: JsonObject, volume: str) -> dict[str, bytes]:
        """What the kubelet puts into a container. The token is bound to the machine's Pod: it ends with it, and after a year."""
        metadata = pod["metadata"]
        reference = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [], "expirationSeconds": _TOKEN_S, "boundObjectRef": reference},
        }
        path = f"/api/v1/namespaces/{key.namespace}/serviceaccounts/{key.name}/token"
        try:
            answer = msgspec.json.decode(await self._client.raw("POST", path, body=request))
        except NotFound as e:
            raise VolumeNotReady("FailedMount", f"ServiceAccount {key} of volume {volume} does not exist; create it", failed=True) from e
        authority = self._client.kubeconfig.ca
        return {
            "token": answer["status"]["token"].encode(),
            "namespace": key.namespace.encode(),
            "ca.crt": authority.read_bytes() if isinstance(authority, Path) else authority or b"",
        }


def read_files(resource: Resource, obj: JsonObject) -> dict[str, bytes]:
    """The keys of a ConfigMap or Secret as files. Raises UserError for what is no base64."""
    plain: Mapping[str, str] = {} if resource == SECRETS else obj.get("data") or {}
    encoded: Mapping[str, str] = obj.get("data" if resource == SECRETS else "binaryData") or {}
    try:
        return {
            **{name: value.encode() for name, value in plain.items()},
            **{name: base64.b64decode(value, validate=True) for name, value in encoded.items()},
        }
    except binascii.Error as e:
        raise UserError(f"{obj['metadata']['name']} holds what is no base64", hint="create it anew with kubectl create") from e


def _field(path: str, wanted: str, pod: JsonObject) -> str:
    metadata = pod["metadata"]
    if wanted in ("metadata.name", "metadata.namespace", "metadata.uid"):
        return str(metadata[wanted.removeprefix("metadata.")])
    if wanted in ("metadata.labels", "metadata.annotations"):
        entries: Mapping[str, str] = metadata.get(wanted.removeprefix("metadata.")) or {}
        return "\n".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(entries.items()))
    if match := _KEYED.fullmatch(wanted):
        return str((metadata.get(match["of"]) or {}).get(match["key"]) or "")
    raise UserError(
        f"{path}.fieldRef.fieldPath is {wanted!r}", hint="write metadata.name, namespace, uid, labels or annotations, or labels['KEY']"
    )


def _resource(path: str, reference: JsonObject, pod: JsonObject) -> str:
    containers = {container["name"]: container for container in pod["spec"]["containers"]}
    container = containers.get(reference.get("containerName") or next(iter(containers)))
    of, _, name = str(reference["resource"]).partition(".")
    value = ((container or {}).get("resources") or {}).get(of, {}).get(name)
    if value is None:
        raise UserError(
            f"{path}.resourceFieldRef: the machine's Pod has no {of}.{name} of {reference.get('containerName') or 'its container'}",
            hint="write requests.cpu or requests.memory of the container compute",
        )
    divisor = parse_quantity(reference.get("divisor") or 1)
    # Kubernetes takes 0 for the default, 1.
    return str(math.ceil(parse_quantity(value) / (divisor or 1)))
