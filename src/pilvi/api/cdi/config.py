"""What holds for all imports, and what a storage class gives to a DataVolume that leaves it open."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar, Literal

from pilvi.api.cdi.sources import CdiCondition
from pilvi.api.core import LocalObjectReference, ResourceRequirements
from pilvi.api.field import Part, accepted, implemented, shape
from pilvi.api.object import Definition, Object
from pilvi.api.resource import Resource

__all__ = ["CDIConfig", "CDIConfigSpec", "ClaimPropertySet", "FilesystemOverhead", "ImportProxy", "StorageProfile"]

SHARE = r"^(0(?:\.\d{1,3})?|1)$"
NO_PODS = "the engine moves the data itself, without Pods"
ONE_WAY = "a copy shares its blocks where the file system can, and is a plain copy elsewhere"
_ACCESS_MODES: dict[str, Any] = {
    "x-kubernetes-validations": [
        {
            "message": "Illegal AccessMode",
            "rule": "self.all(am, am in ['ReadWriteOnce', 'ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOncePod'])",
        }
    ]
}


class FilesystemOverhead(Part):
    global_: Annotated[str | None, shape(pattern=SHARE)] = None
    storage_class: dict[str, Annotated[str, shape(pattern=SHARE)]] = {}


class ImportProxy(Part):
    http_proxy: Annotated[str | None, implemented("Proxy of http URLs.")] = None
    https_proxy: Annotated[str | None, implemented("Proxy of https URLs.")] = None
    no_proxy: Annotated[str | None, implemented("Hosts and domains that are asked directly, with commas.")] = None
    trusted_ca_proxy: Annotated[
        str | None, accepted("ConfigMap with the authority of an intercepting proxy.", "name it as certConfigMap of each source")
    ] = None


class TlsCiphers(Part):
    ciphers: list[str]
    min_tls_version: Literal["VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"]


class NullableEmpty(Part):
    SCHEMA: ClassVar[dict[str, Any]] = {"nullable": True}


class TlsSecurityProfile(Part):
    custom: Annotated[TlsCiphers | None, shape(nullable=True)] = None
    intermediate: NullableEmpty | None = None
    modern: NullableEmpty | None = None
    old: NullableEmpty | None = None
    type: Literal["Old", "Intermediate", "Modern", "Custom"] | None = None


class CDIConfigSpec(Part):
    data_volume_ttl_seconds: Annotated[
        int | None, accepted("When finished DataVolumes go.", "they stay, as upstream does by now", format="int32")
    ] = None
    feature_gates: Annotated[list[str], accepted("Features to turn on.", "there are none to turn on")] = []
    filesystem_overhead: Annotated[
        FilesystemOverhead | None, implemented("Share of a Filesystem volume that its file system takes; 0 for classes of pilvi.")
    ] = None
    image_pull_secrets: Annotated[list[LocalObjectReference], accepted("Secrets of the importing Pods.", NO_PODS)] = []
    import_proxy: Annotated[ImportProxy | None, implemented("Proxy of imports over http.")] = None
    insecure_registries: Annotated[
        list[str],
        implemented("Registries, as host or host:port, that are taken with any certificate or without TLS, also for containerDisks."),
    ] = []
    log_verbosity: Annotated[int | None, accepted("How much is logged.", "the engine has one log", format="int32")] = None
    pod_resource_requirements: Annotated[ResourceRequirements | None, accepted("Size of the importing Pods.", NO_PODS)] = None
    preallocation: Annotated[bool | None, implemented("Take the whole space of each disk at once, unless a DataVolume says.")] = None
    scratch_space_storage_class: Annotated[
        str | None, accepted("Class of scratch volumes.", "what is downloaded waits below the cloud's home")
    ] = None
    tls_security_profile: Annotated[TlsSecurityProfile | None, accepted("TLS of listeners.", "TLS 1.2 and later, as Python has it")] = None
    upload_proxy_url_override: Annotated[str | None, implemented("Address of the upload proxy, where clients reach it by another one.")] = (
        None
    )
    webhook_pvc_rendering: Annotated[str | None, accepted("Defaults for plain claims.", "plain claims stay as they are written")] = None


class CDIConfigStatus(Part):
    default_pod_resource_requirements: ResourceRequirements | None = None
    filesystem_overhead: Annotated[FilesystemOverhead | None, shape("The shares in force.")] = None
    image_pull_secrets: list[LocalObjectReference] = []
    import_proxy: Annotated[ImportProxy | None, shape("The proxy in force.")] = None
    preallocation: Annotated[bool | None, shape("Whether disks take their space at once.")] = None
    scratch_space_storage_class: str | None = None
    upload_proxy_ca: Annotated[str | None, shape("Authority that the upload proxy's certificate is signed by, in PEM.")] = None
    upload_proxy_url: Annotated[str | None, shape("Address of the upload proxy.")] = None


class CDIConfig(Object):
    """What holds for all imports. There is one, called config."""

    RESOURCE: ClassVar[Resource] = Resource("cdi.kubevirt.io", "v1beta1", "cdiconfigs", "CDIConfig", namespaced=False)
    DEFINITION: ClassVar[Definition] = Definition(status=False)

    spec: CDIConfigSpec
    status: CDIConfigStatus | None = None


class ClaimPropertySet(Part):
    access_modes: Annotated[list[str], shape(max_items=4, **_ACCESS_MODES)]
    volume_mode: Literal["Block", "Filesystem"]


class StorageProfileSpec(Part):
    claim_property_sets: Annotated[
        list[ClaimPropertySet], implemented("Volume modes and access modes, best first; instead of those that pilvi knows.", max_items=8)
    ] = []
    clone_strategy: Annotated[str | None, accepted("How disks are copied.", ONE_WAY)] = None
    data_import_cron_source_format: Annotated[str | None, accepted("pvc or snapshot.", "imports are kept as claims")] = None
    snapshot_class: Annotated[str | None, accepted("Class of snapshots made for copies.", "none are made")] = None


class StorageProfileStatus(Part):
    claim_property_sets: Annotated[list[ClaimPropertySet], shape("The sets in force, best first.", max_items=8)] = []
    clone_strategy: Annotated[str | None, shape("How disks are copied.")] = None
    conditions: list[CdiCondition] = []
    data_import_cron_source_format: str | None = None
    provisioner: Annotated[str | None, shape("Provisioner of the class.")] = None
    snapshot_class: str | None = None
    storage_class: Annotated[str | None, shape("The class.")] = None


class StorageProfile(Object):
    """What a storage class gives to a DataVolume that leaves it open. There is one for each class, of the same name."""

    RESOURCE: ClassVar[Resource] = Resource("cdi.kubevirt.io", "v1beta1", "storageprofiles", "StorageProfile", namespaced=False)

    spec: StorageProfileSpec
    status: StorageProfileStatus | None = None
