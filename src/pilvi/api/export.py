"""VirtualMachineExport, the kind of export.kubevirt.io: disks of a machine, a snapshot or a claim, to be downloaded for a while."""

from typing import Annotated, ClassVar

from pilvi.api.field import DateTime, Part, implemented, shape
from pilvi.api.object import Column, Definition, Object, Rule
from pilvi.api.resource import Resource
from pilvi.api.snapshot.parts import OperationCondition, TypedReference, duration_rule, unchanged

__all__ = ["EXPORT_PORT", "EXPORT_VERSIONS", "VirtualMachineExport"]

EXPORT_PORT = 9448
"""Port of the export proxy, on the platform's address."""
EXPORT_VERSIONS = ("v1beta1", "v1")


class VirtualMachineExportSpec(Part):
    source: Annotated[TypedReference, implemented("A PersistentVolumeClaim, a VirtualMachine, or a VirtualMachineSnapshot.")]
    token_secret_ref: Annotated[
        str | None, implemented("Secret whose value token a client has to send. One is made, named in the status, when this is left out.")
    ] = None
    ttl_duration: Annotated[str | None, implemented("The export is deleted when it is so old, such as 30m; 2h when left out.")] = None


class ExportFormat(Part):
    format: Annotated[str, shape("raw or gzip.")]
    url: Annotated[str, shape("Where the volume is in that format.")]


class ExportVolume(Part):
    name: Annotated[str, shape("Name of the volume's claim.")]
    formats: Annotated[list[ExportFormat], shape("What it can be had as.", list_map=["format"])] = []


class ExportManifest(Part):
    type: Annotated[str, shape("all, or auth-header-secret.")]
    url: Annotated[str, shape("Where it is.")]


class ExportLink(Part):
    cert: Annotated[str, shape("The certificate authority of the server, in PEM.")]
    manifests: Annotated[list[ExportManifest], shape("What makes the machine elsewhere.", list_map=["type"])] = []
    volumes: Annotated[list[ExportVolume], shape("The volumes.", list_map=["name"])] = []


class ExportLinks(Part):
    external: Annotated[ExportLink | None, shape("Links to the export proxy.")] = None
    internal: Annotated[ExportLink | None, shape("The same: the proxy has one address, for all.")] = None


class VirtualMachineExportStatus(Part):
    conditions: Annotated[list[OperationCondition], shape("Ready, PVCReady, VolumesCreated.", list_type="atomic")] = []
    links: Annotated[ExportLinks | None, shape("Where all is, while the export is Ready.")] = None
    phase: Annotated[str | None, shape("Pending, Ready, or Skipped when there is nothing to export.")] = None
    token_secret_ref: Annotated[str | None, shape("The Secret with the token.")] = None
    ttl_expiration_time: Annotated[DateTime | None, shape("When the export is deleted.")] = None
    virtual_machine_name: Annotated[str | None, shape("The machine that the volumes are of.")] = None


class VirtualMachineExport(Object):
    """Disks of a stopped machine, of a snapshot, or of a claim that nobody uses, to be downloaded with a token for a while."""

    RESOURCE: ClassVar[Resource] = Resource("export.kubevirt.io", "v1beta1", "virtualmachineexports", "VirtualMachineExport")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("vmexport", "vmexports"),
        categories=("all",),
        also_served=EXPORT_VERSIONS[1:],
        columns=(
            Column("SourceKind", ".spec.source.kind"),
            Column("SourceName", ".spec.source.name"),
            Column("Phase", ".status.phase"),
        ),
        variables={"group": "object.spec.source.?apiGroup.orValue('')"},
        rules=(
            Rule(
                "(object.spec.source.kind == 'PersistentVolumeClaim' && variables.group == '')"
                " || (object.spec.source.kind == 'VirtualMachine' && variables.group == 'kubevirt.io')"
                " || (object.spec.source.kind == 'VirtualMachineSnapshot' && variables.group == 'snapshot.kubevirt.io')",
                "'spec.source has to name a PersistentVolumeClaim (without apiGroup), a VirtualMachine (apiGroup: kubevirt.io)"
                " or a VirtualMachineSnapshot (apiGroup: snapshot.kubevirt.io); templates and backups are not served here'",
            ),
            Rule("object.spec.source.name != ''", "'spec.source.name is empty; write the name of the object to export'"),
            Rule(
                "!has(object.spec.tokenSecretRef) || object.spec.tokenSecretRef != ''",
                "'spec.tokenSecretRef is empty; name a Secret, or leave it out and one is made'",
            ),
            duration_rule("spec.ttlDuration", "30m, 2h or 1h30m"),
            unchanged("VirtualMachineExport"),
        ),
    )

    spec: VirtualMachineExportSpec
    status: VirtualMachineExportStatus | None = None
