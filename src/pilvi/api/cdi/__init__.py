"""CDI's kinds: disks with what shall be on them, and where that comes from."""

from pilvi.api.cdi.config import CDIConfig, ClaimPropertySet, StorageProfile
from pilvi.api.cdi.dataimportcron import DataImportCron
from pilvi.api.cdi.datasource import DataSource, DataSourceSource
from pilvi.api.cdi.datavolume import DataVolume, DataVolumeSpec
from pilvi.api.cdi.populators import VolumeCloneSource, VolumeImportSource, VolumeUploadSource
from pilvi.api.cdi.sources import HttpSource, ImportSource, NamedSource, RegistrySource

__all__ = [
    "CDIConfig",
    "ClaimPropertySet",
    "DataImportCron",
    "DataSource",
    "DataSourceSource",
    "DataVolume",
    "DataVolumeSpec",
    "HttpSource",
    "ImportSource",
    "NamedSource",
    "RegistrySource",
    "StorageProfile",
    "VolumeCloneSource",
    "VolumeImportSource",
    "VolumeUploadSource",
]
