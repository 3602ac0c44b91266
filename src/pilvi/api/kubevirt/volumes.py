"""Volumes and networks of a virtual machine."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar

from pilvi.api.core import ATOMIC, Empty, LocalObjectReference
from pilvi.api.field import Part, Quantity, accepted, implemented, rejected, shape

__all__ = ["CloudInit", "ContainerDisk", "Network", "PodNetwork", "Volume"]

A_CONTAINER_DISK = "a containerDisk"


class CloudInit(Part):
    """Data for the guest's cloud-init: given in the object, or in a Secret (key userdata)."""

    network_data: Annotated[str | None, implemented("Network configuration, plain; a sandbox takes none.")] = None
    network_data_base64: Annotated[str | None, implemented("Network configuration in base64.")] = None
    network_data_secret_ref: Annotated[
        LocalObjectReference | None, implemented("Secret with the network configuration, under the key networkdata.")
    ] = None
    secret_ref: Annotated[LocalObjectReference | None, implemented("Secret with the user data.")] = None
    user_data: Annotated[str | None, implemented("User data, plain.")] = None
    user_data_base64: Annotated[str | None, implemented("User data in base64.")] = None


class ConfigMapVolume(Part):
    SCHEMA: ClassVar[dict[str, Any]] = ATOMIC

    name: Annotated[str, shape(default="")] = ""
    optional: bool | None = None
    volume_label: str | None = None


class ContainerDisk(Part):
    image: Annotated[str, implemented("Image of the disk; pilvi.dev/node:<version> is the Kubernetes node.")]
    image_pull_policy: Annotated[
        str | None, implemented("Always, IfNotPresent or Never; default Always for a tag latest or none, else IfNotPresent.")
    ] = None
    image_pull_secret: Annotated[
        str | None, implemented("Secret of type kubernetes.io/dockerconfigjson with the registry's credentials.")
    ] = None
    path: Annotated[str | None, implemented("File of the image that is the disk; default the one below /disk.")] = None


class ContainerPath(Part):
    path: Annotated[str, shape(max_length=4096)]
    read_only: bool = True


class DataVolumeSource(Part):
    name: Annotated[str, implemented("Name of the DataVolume, and of its claim.")]
    hotpluggable: Annotated[bool | None, implemented("The disk can come and go while the machine runs.")] = None


class FieldRef(Part):
    SCHEMA: ClassVar[dict[str, Any]] = ATOMIC

    field_path: str
    api_version: str | None = None


class ResourceFieldRef(Part):
    SCHEMA: ClassVar[dict[str, Any]] = ATOMIC

    resource: str
    container_name: str | None = None
    divisor: Quantity | None = None


class DownwardField(Part):
    path: str
    field_ref: FieldRef | None = None
    mode: int | None = None
    resource_field_ref: ResourceFieldRef | None = None


class DownwardApiVolume(Part):
    fields: list[DownwardField] = []
    volume_label: str | None = None


class EmptyDisk(Part):
    capacity: Annotated[Quantity, implemented("Size of the disk.")]


class ClaimSource(Part):
    claim_name: Annotated[str, implemented("Name of the claim.")]
    read_only: bool | None = None


class EphemeralVolume(Part):
    persistent_volume_claim: Annotated[ClaimSource | None, implemented("The claim that is only read.")] = None


class HostDisk(Part):
    path: str
    type: str
    capacity: Quantity | None = None
    shared: bool | None = None


class ClaimVolume(Part):
    claim_name: Annotated[str, implemented("Name of the claim.")]
    hotpluggable: Annotated[bool | None, implemented("The disk can come and go while the machine runs.")] = None
    read_only: Annotated[bool | None, implemented("The guest cannot write to it.")] = None


class SecretVolume(Part):
    optional: bool | None = None
    secret_name: str | None = None
    volume_label: str | None = None


class ServiceAccountVolume(Part):
    service_account_name: str | None = None


class Sysprep(Part):
    config_map: LocalObjectReference | None = None
    secret: LocalObjectReference | None = None


class Volume(Part):
    name: Annotated[str, implemented("Name by which disks refer to the volume.")]
    cloud_init_config_drive: Annotated[CloudInit | None, implemented("Bootstrap data as a config drive.")] = None
    cloud_init_no_cloud: Annotated[CloudInit | None, implemented("Bootstrap data as a NoCloud disk.")] = None
    config_map: ConfigMapVolume | None = None
    container_disk: Annotated[ContainerDisk | None, implemented("The machine's system disk, new with every start of the machine.")] = None
    container_path: ContainerPath | None = None
    data_volume: Annotated[DataVolumeSource | None, implemented("The disk of a DataVolume.")] = None
    downward_api: DownwardApiVolume | None = None
    downward_metrics: Empty | None = None
    empty_disk: Annotated[EmptyDisk | None, implemented("A disk that is new with every start of the machine.")] = None
    ephemeral: Annotated[EphemeralVolume | None, implemented("A layer over a claim, new with every start of the machine.")] = None
    host_disk: Annotated[
        HostDisk | None,
        rejected("A file of the host.", "machines may not reach into the host's files", A_CONTAINER_DISK),
    ] = None
    memory_dump: ClaimVolume | None = None
    persistent_volume_claim: Annotated[ClaimVolume | None, implemented("The disk of a claim, which outlives the machine.")] = None
    secret: SecretVolume | None = None
    service_account: ServiceAccountVolume | None = None
    sysprep: Sysprep | None = None


class MultusNetwork(Part):
    network_name: Annotated[str, implemented("Name of a NetworkAttachmentDefinition; <namespace>/<name> for one of another namespace.")]
    default: Annotated[bool | None, implemented("Makes it the machine's first network, in place of the pod network.")] = None


class PodNetwork(Part):
    vm_ipv6_network_cidr: Annotated[str | None, accepted("Range inside the machine.", "the machine holds its subnet's address")] = None
    vm_network_cidr: Annotated[str | None, accepted("Range inside the machine.", "the machine holds its subnet's address")] = None


class NetworkClaim(Part):
    claim_name: str | None = None
    request_name: str | None = None


class Network(Part):
    name: Annotated[str, implemented("Name by which interfaces refer to the network.")]
    multus: Annotated[MultusNetwork | None, implemented("The network of a NetworkAttachmentDefinition.")] = None
    pod: Annotated[PodNetwork | None, implemented("The subnet of the machine.")] = None
    resource_claim: NetworkClaim | None = None
