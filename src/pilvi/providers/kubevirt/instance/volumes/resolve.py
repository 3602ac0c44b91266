"""Resolves the volumes of an instance: from what its specification names to what a backend can use."""

from __future__ import annotations

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError
from pilvi.lib.quantity import quantity_bytes
from pilvi.node import parse_node_image
from pilvi.providers.kubevirt.instance.credentials.credential import find_credentials, get_secret, read_public_keys
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.status import phase_of
from pilvi.providers.kubevirt.instance.volumes.claims import ClaimDisks, find_claim
from pilvi.providers.kubevirt.instance.volumes.cloudinit import CloudInit, Given, InSecret, decode_secret, find_cloud_init
from pilvi.providers.kubevirt.instance.volumes.filesets import FileDisks
from pilvi.providers.kubevirt.instance.volumes.images import ContainerDisks
from pilvi.providers.kubevirt.machines.volumes import BootFiles, CloudInitDisk, EmptyDisk, MachineVolume, NodeDisk

__all__ = ["Volumes"]


class Volumes:
    """Reads what volumes name."""

    def __init__(self, caches: Caches, images: ContainerDisks, claims: ClaimDisks, files: FileDisks) -> None:
        self._secrets = caches.secrets
        self._images = images
        self._claims = claims
        self._files = files

    async def resolve(self, scope: Scope) -> tuple[MachineVolume, ...]:
        """The volumes of the instance, in their order, but those that can come and go (`instance/attachments.py`).

        Raises UserError for what a person must mend, VolumeNotReady for what is being made, of which the last write or signal wakes.
        """
        cloud_init = find_cloud_init(scope.vmi)
        volumes = scope.vmi["spec"].get("volumes") or []
        found = [await self._files.find(scope, volume) or self._resolve(scope, volume, cloud_init) for volume in volumes]
        return tuple(volume for volume in found if volume is not None)

    def resolve_kernel(self, scope: Scope) -> BootFiles | None:
        """What the instance boots without a boot loader, if anything. Raises as `resolve` does."""
        return self._images.resolve_kernel(scope)

    def _resolve(self, scope: Scope, volume: JsonObject, cloud_init: CloudInit | None) -> MachineVolume | None:
        name = str(volume["name"])
        if cloud_init is not None and cloud_init.volume == name:
            return self._cloud_init(scope, cloud_init)
        if volume.get("containerDisk") is not None:
            version = parse_node_image(volume["containerDisk"]["image"])
            return self._images.resolve(scope, volume) if version is None else NodeDisk(name, version)
        if (named := find_claim(volume)) is not None:
            if named.hotpluggable:
                return None
            return self._claims.resolve(scope, name, named)
        if volume.get("emptyDisk") is not None:
            return EmptyDisk(name, quantity_bytes(volume["emptyDisk"]["capacity"]))
        kind = next((field for field, value in volume.items() if field != "name" and value is not None), "nothing")
        raise UserError(f"spec.volumes[{name}].{kind} is not implemented yet", hint="remove the volume and its disk")

    def _cloud_init(self, scope: Scope, found: CloudInit) -> CloudInitDisk:
        metadata = scope.vmi["metadata"]
        return CloudInitDisk(
            name=found.volume,
            source=found.source,
            user_data=self._read(scope, found.user_data),
            network_data=self._read(scope, found.network_data) or b"",
            public_keys=self._public_keys(scope),
            # KubeVirt's cloud-init meta-data; the values are what templates in bootstrap data refer to.
            meta_data={
                "local_hostname": scope.vmi["spec"].get("hostname") or metadata["name"],
                "instance_id": f"{metadata['name']}.{metadata['namespace']}",
            },
        )

    def _public_keys(self, scope: Scope) -> tuple[str, ...]:
        """Of the access credentials that take this way. A guest that runs has read its seed and needs no Secret any more."""
        runs = phase_of(scope.vmi) == "Running"
        named = [key for key in find_credentials(scope.vmi).by_seed if not runs or self._secrets.get(key) is not None]
        found = (read_public_keys(get_secret(self._secrets.get, key)) for key in named)
        return tuple(dict.fromkeys(line for lines in found for line in lines))

    def _read(self, scope: Scope, source: Given | InSecret) -> bytes | None:
        if isinstance(source, Given):
            return source.data
        secret = self._secrets.get(source.secret)
        if secret is not None:
            return decode_secret(secret, source.names)
        if phase_of(scope.vmi) == "Running":
            return None
        raise UserError(
            f"Secret {source.secret} with {source.names[0]} of the guest does not exist", hint=f"create it with the key {source.names[0]}"
        )
