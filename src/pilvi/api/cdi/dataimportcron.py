"""DataImportCron: keeps a DataSource on the newest image of a registry."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar

from pilvi.api.cdi.datavolume import DataVolumeSpec, DataVolumeStatus
from pilvi.api.cdi.sources import CdiCondition
from pilvi.api.field import Part, accepted, implemented, shape
from pilvi.api.object import Column, Definition, Object, Rule
from pilvi.api.resource import Resource

__all__ = ["DataImportCron", "DataImportCronSpec", "DataImportCronStatus"]


class ImportTemplate(Part):
    spec: Annotated[DataVolumeSpec, implemented("The DataVolume of each import; its source is a registry.")]
    api_version: Annotated[str | None, implemented("May be left out; it is that of a DataVolume.")] = None
    kind: Annotated[str | None, implemented("May be left out; it is DataVolume.")] = None
    metadata: Annotated[dict[str, Any] | None, implemented("Labels and annotations of the DataVolumes.")] = None
    status: Annotated[DataVolumeStatus | None, accepted("How a DataVolume is.", "a template has none")] = None


class DataImportCronSpec(Part):
    managed_data_source: Annotated[str, implemented("The DataSource that is kept on the newest import; made when it is not there.")]
    schedule: Annotated[str, implemented("When the registry is asked, as cron has it, in UTC; never when empty.")]
    template: Annotated[ImportTemplate, implemented("What is imported.")]
    garbage_collect: Annotated[str | None, implemented("Outdated (default): old imports go; Never.")] = None
    imports_to_keep: Annotated[int | None, implemented("How many imports stay, with the newest; 3 when left out.", format="int32")] = None
    retention_policy: Annotated[
        str | None, implemented("What happens to imports and DataSource when this goes: All (default) stay, or None.")
    ] = None
    service_account_name: Annotated[
        str | None, accepted("Account of the polling Pod.", "the engine asks the registry itself", min_length=1)
    ] = None


class ImportedClaim(Part):
    name: str
    namespace: str


class Import(Part):
    import_data_volume_name: str
    import_digest: str


class DataImportCronStatus(Part):
    conditions: Annotated[list[CdiCondition], shape("Progressing and UpToDate.")] = []
    current_imports: Annotated[list[Import], shape("The import of the image that the registry has now.")] = []
    last_execution_timestamp: Annotated[str | None, shape("When the registry was asked last.", format="date-time")] = None
    last_import_timestamp: Annotated[str | None, shape("When the last import was whole.", format="date-time")] = None
    last_imported_pvc: Annotated[ImportedClaim | None, shape("The newest whole import, which the DataSource names.")] = None
    source_format: Annotated[str | None, shape("pvc.")] = None


class DataImportCron(Object):
    """Asks a registry at given times for an image, imports a new one, and points a DataSource at it."""

    RESOURCE: ClassVar[Resource] = Resource("cdi.kubevirt.io", "v1beta1", "dataimportcrons", "DataImportCron")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("dic", "dics"),
        categories=("all",),
        columns=(Column("Format", ".status.sourceFormat"),),
        status=False,
        rules=(
            Rule(
                "oldObject == null || object.spec == oldObject.?spec.orValue({})",
                "'spec of a DataImportCron cannot change; delete it, and make a new one with the same managedDataSource'",
            ),
            Rule(
                "object.spec.?template.?spec.?source.?registry.?url.orValue('').startsWith('docker://')",
                "'spec.template.spec.source must be a registry, with a url such as docker://quay.io/containerdisks/debian:12'",
            ),
            Rule(
                "size(object.metadata.name) <= 63 && size(object.spec.managedDataSource) <= 50 && object.spec.managedDataSource != ''",
                "'the name becomes a label, and spec.managedDataSource part of names: at most 63 and 50 characters'",
            ),
            Rule(
                "object.spec.?importsToKeep.orValue(3) >= 0",
                "'spec.importsToKeep must not be negative'",
            ),
            Rule(
                "object.spec.?garbageCollect.orValue('Outdated') in ['Outdated', 'Never']",
                "'spec.garbageCollect must be Outdated or Never'",
            ),
            Rule(
                "object.spec.?retentionPolicy.orValue('All') in ['All', 'None']",
                "'spec.retentionPolicy must be All or None'",
            ),
        ),
    )

    spec: DataImportCronSpec
    status: DataImportCronStatus | None = None
