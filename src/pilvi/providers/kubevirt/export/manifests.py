"""The manifests of an export: what makes the machine elsewhere, with disks that come from here. Pure. Names are KubeVirt's.

They name no namespace, so all of them can be applied to any one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from pilvi.api import JsonObject
from pilvi.lib.quantity import quantity_bytes
from pilvi.providers.kubevirt.export.contents import Held, Volume
from pilvi.providers.kubevirt.export.kinds import CONFIG_MAPS, DATA_VOLUMES, MACHINES, SECRETS
from pilvi.providers.kubevirt.export.status import file_url

__all__ = ["TOKEN_HEADER", "header_secret", "machine_manifests", "written"]

TOKEN_HEADER = "x-kubevirt-export-token"  # noqa: S105 (the name of the header)
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def machine_manifests(
    export: JsonObject, held: Held, vm: JsonObject, claims: Mapping[str, JsonObject], *, url: str, authority: str
) -> list[JsonObject]:
    """The authority of the server, the machine, and its disks that no template of it makes.

    `vm` has no instancetype any more, which may not be there elsewhere. `claims` are those of the volumes, by name.
    """
    certificates, headers = f"export-ca-cm-{export['metadata']['name']}", _header_name(export)
    config_map = {"apiVersion": "v1", "kind": CONFIG_MAPS.kind, "metadata": {"name": certificates}, "data": {"ca.pem": authority}}

    def source(volume: Volume) -> JsonObject:
        http = {"url": file_url(url, volume.claim, packed=True), "certConfigMap": certificates, "secretExtraHeaders": [headers]}
        return {"http": http}

    volumes = {volume.original: volume for volume in held.volumes}
    spec: JsonObject = copy.deepcopy(vm["spec"])
    templates = {template["metadata"]["name"]: template for template in spec.get("dataVolumeTemplates") or ()}
    for name in templates.keys() & volumes.keys():
        templates[name]["spec"] = _filled(templates[name].get("spec") or {}, source(volumes[name]), volumes[name].size_bytes)
    metadata = copy.deepcopy({field: vm["metadata"][field] for field in ("name", "labels", "annotations") if vm["metadata"].get(field)})
    metadata.get("annotations", {}).pop(LAST_APPLIED, None)
    machine = {"apiVersion": MACHINES.api_version, "kind": MACHINES.kind, "metadata": metadata, "spec": spec}
    disks = [
        {
            "apiVersion": DATA_VOLUMES.api_version,
            "kind": DATA_VOLUMES.kind,
            "metadata": {"name": volume.original},
            "spec": _filled({"storage": _storage(claims[volume.claim])}, source(volume), volume.size_bytes),
        }
        for volume in held.volumes
        if volume.original not in templates
    ]
    return [config_map, machine, *disks]


def header_secret(export: JsonObject, token: bytes) -> JsonObject:
    """The Secret that the DataVolumes of the manifests name."""
    value = f"{TOKEN_HEADER}:{token.decode(errors='replace')}"
    return {"apiVersion": "v1", "kind": SECRETS.kind, "metadata": {"name": _header_name(export)}, "stringData": {"token": value}}


def written(objects: list[JsonObject], *, as_yaml: bool) -> bytes:
    """Several objects as one text for `kubectl apply -f -`. In YAML each ends with a line of dashes: such texts can follow each other."""
    if as_yaml:
        return b"".join(yaml.safe_dump(obj, sort_keys=False).encode() + b"---\n" for obj in objects)
    return msgspec.json.format(msgspec.json.encode({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": objects}), indent=4)


def _header_name(export: JsonObject) -> str:
    return f"header-secret-{export['metadata']['name']}"


def _filled(spec: JsonObject, source: JsonObject, size_bytes: int) -> JsonObject:
    """The specification of a DataVolume with another source. It has to be as large as the disk is now, which may have grown."""
    left = {name: value for name, value in spec.items() if name not in ("source", "sourceRef")}
    place = next((name for name in ("storage", "pvc") if left.get(name)), "storage")
    claim: dict[str, Any] = left.get(place) or {}
    requests = ((claim.get("resources") or {}).get("requests")) or {}
    if quantity_bytes(requests.get("storage") or 0) < size_bytes:
        requests = {**requests, "storage": str(size_bytes)}
    resources = {**(claim.get("resources") or {}), "requests": requests}
    return {"source": source, **left, place: {**claim, "resources": resources}}


def _storage(claim: JsonObject) -> JsonObject:
    """What a claim asks for. Not its class: the other cloud has classes of its own."""
    return {name: copy.deepcopy(claim["spec"][name]) for name in ("accessModes", "volumeMode") if claim["spec"].get(name)}
