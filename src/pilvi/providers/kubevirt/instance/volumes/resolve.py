"""Resolves the volumes of an instance: from what its specification names to what a backend can use."""

from __future__ import annotations

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError
from pilvi.node import parse_node_image
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.status import phase_of
from pilvi.providers.kubevirt.instance.volumes.cloudinit import decode_secret, find_user_data
from pilvi.providers.kubevirt.machines.volumes import CloudInitDisk, MachineVolume, NodeDisk

__all__ = ["Volumes"]


class Volumes:
    """Reads what volumes name."""

    def __init__(self, caches: Caches) -> None:
        self._secrets = caches.secrets

    def resolve(self, scope: Scope) -> tuple[MachineVolume, ...]:
        """The volumes of the instance, in their order. Raises UserError for what a person must mend."""
        found = (self._resolve(scope, volume) for volume in scope.vmi["spec"].get("volumes") or [])
        return tuple(volume for volume in found if volume is not None)

    def _resolve(self, scope: Scope, volume: JsonObject) -> MachineVolume | None:
        name = str(volume["name"])
        if volume.get("containerDisk") is not None:
            version = parse_node_image(volume["containerDisk"]["image"])
            return None if version is None else NodeDisk(name, version)
        if volume.get("cloudInitNoCloud") is not None:
            return CloudInitDisk(name, "NoCloud", self._read_user_data(scope), _meta_data(scope.vmi))
        if volume.get("cloudInitConfigDrive") is not None:
            return CloudInitDisk(name, "ConfigDrive", self._read_user_data(scope), _meta_data(scope.vmi))
        return None

    def _read_user_data(self, scope: Scope) -> bytes | None:
        found = find_user_data(scope.vmi)
        if found.secret is None:
            return found.data
        secret = self._secrets.get(found.secret)
        if secret is not None:
            return decode_secret(secret)
        if phase_of(scope.vmi) == "Running":
            return None
        raise UserError(f"Secret {found.secret} with the user data does not exist", hint="create it with the key userdata")


def _meta_data(vmi: JsonObject) -> dict[str, str]:
    """KubeVirt's cloud-init meta-data; the values are what templates in bootstrap data refer to."""
    metadata = vmi["metadata"]
    name = vmi["spec"].get("hostname") or metadata["name"]
    return {"local_hostname": name, "instance_id": f"{metadata['name']}.{metadata['namespace']}"}
