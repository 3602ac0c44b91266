"""Volumes and networks of a virtual machine."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar

from pilvi.api.core import ATOMIC, Empty, LocalObjectReference
from pilvi.api.field import Part, Quantity, accepted, implemented, rejected, shape

__all__ = ["CloudInit", "ContainerDisk", "Network", "PodNetwork", "Volume"]

A_CONTAINER_DISK = "a containerDisk"
A_DISC = "A read-only disc of"
LABEL = "Label of the disc; default cfgdata."
NO_FOLDERS = "a machine sees disks, and no folder of the host or of a Pod"


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

    name: Annotated[str, implemented("Its name.", default="")] = ""
    optional: Annotated[bool | None, implemented("The machine starts without it too, with an empty disc.")] = None
    volume_label: Annotated[str | None, implemented(LABEL)] = None


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

    field_path: Annotated[
        str, implemented("Of the virt-launcher Pod: metadata.name, namespace, uid, labels, annotations, or labels['KEY'].")
    ]
    api_version: Annotated[str | None, accepted("Version of the schema.", "a Pod has one, v1")] = None


class ResourceFieldRef(Part):
    SCHEMA: ClassVar[dict[str, Any]] = ATOMIC

    resource: Annotated[str, implemented("requests.cpu or requests.memory.")]
    container_name: Annotated[str | None, implemented("compute, which is the default.")] = None
    divisor: Annotated[Quantity | None, implemented("Unit of the figure; default 1.")] = None


class DownwardField(Part):
    path: Annotated[str, implemented("Its file on the disc.")]
    field_ref: Annotated[FieldRef | None, implemented("A field of the virt-launcher Pod.")] = None
    mode: Annotated[int | None, accepted("Mode of the file.", "all files of a disc can be read by all users of the guest")] = None
    resource_field_ref: Annotated[ResourceFieldRef | None, implemented("What the virt-launcher Pod asks for.")] = None


class DownwardApiVolume(Part):
    fields: Annotated[list[DownwardField], implemented("The files.")] = []
    volume_label: Annotated[str | None, implemented(LABEL)] = None


class EmptyDisk(Part):
    capacity: Annotated[Quantity, implemented("Size of the disk.")]


class ClaimSource(Part):
    claim_name: Annotated[str, implemented("Name of the claim.")]
    read_only: Annotated[bool | None, implemented("The claim is only read anyway.")] = None


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


class MemoryDumpVolume(Part):
    claim_name: Annotated[str, implemented("Name of the claim, as large as the memory and 100Mi; one that is new or holds a dump.")]
    hotpluggable: Annotated[bool | None, accepted("Whether it comes and goes.", "it always does", when="self == false")] = None
    read_only: Annotated[bool | None, rejected("No writing.", "the memory is written to it", "false, or nothing", when="self == true")] = (
        None
    )


class SecretVolume(Part):
    optional: Annotated[bool | None, implemented("The machine starts without it too, with an empty disc.")] = None
    secret_name: Annotated[str | None, implemented("Its name.")] = None
    volume_label: Annotated[str | None, implemented(LABEL)] = None


class ServiceAccountVolume(Part):
    service_account_name: Annotated[str | None, implemented("Its name; the virt-launcher Pod is of this account too.")] = None


class Sysprep(Part):
    config_map: Annotated[LocalObjectReference | None, implemented("ConfigMap with autounattend.xml or unattend.xml.")] = None
    secret: Annotated[LocalObjectReference | None, implemented("Secret with autounattend.xml or unattend.xml.")] = None


class Volume(Part):
    name: Annotated[str, implemented("Name by which disks refer to the volume.")]
    cloud_init_config_drive: Annotated[CloudInit | None, implemented("Bootstrap data as a config drive.")] = None
    cloud_init_no_cloud: Annotated[CloudInit | None, implemented("Bootstrap data as a NoCloud disk.")] = None
    config_map: Annotated[ConfigMapVolume | None, implemented(f"{A_DISC} a ConfigMap's keys, as they are when the machine starts.")] = None
    container_disk: Annotated[ContainerDisk | None, implemented("The machine's system disk, new with every start of the machine.")] = None
    container_path: Annotated[
        ContainerPath | None, rejected("A folder of the virt-launcher container.", NO_FOLDERS, "a configMap, secret or containerDisk")
    ] = None
    data_volume: Annotated[DataVolumeSource | None, implemented("The disk of a DataVolume.")] = None
    downward_api: Annotated[
        DownwardApiVolume | None, implemented(f"{A_DISC} what the virt-launcher Pod is, as it is when the machine starts.")
    ] = None
    downward_metrics: Annotated[
        Empty | None,
        rejected("Figures of the host.", "what the host does is not for guests", "a downwardAPI volume for requests.cpu and memory"),
    ] = None
    empty_disk: Annotated[EmptyDisk | None, implemented("A disk that is new with every start of the machine.")] = None
    ephemeral: Annotated[EphemeralVolume | None, implemented("A layer over a claim, new with every start of the machine.")] = None
    host_disk: Annotated[
        HostDisk | None,
        rejected("A file of the host.", "machines may not reach into the host's files", A_CONTAINER_DISK),
    ] = None
    memory_dump: Annotated[
        MemoryDumpVolume | None,
        implemented(
            "Claim that the machine's memory is written to, once, when it runs; no disk of the machine."
            " `virtctl memory-dump` writes it and takes it away."
        ),
    ] = None
    persistent_volume_claim: Annotated[ClaimVolume | None, implemented("The disk of a claim, which outlives the machine.")] = None
    secret: Annotated[SecretVolume | None, implemented(f"{A_DISC} a Secret's keys, as they are when the machine starts.")] = None
    service_account: Annotated[
        ServiceAccountVolume | None,
        implemented(f"{A_DISC} token, namespace and ca.crt of an account; the token ends with the run of the machine."),
    ] = None
    sysprep: Annotated[Sysprep | None, implemented(f"{A_DISC} answers for Windows' setup.")] = None


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
    resource_claim: Annotated[
        NetworkClaim | None, rejected("The network of a device.", "the cloud hands out no devices", "pod: {} or multus")
    ] = None
