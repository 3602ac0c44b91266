"""Where the kinds live that exports are made of."""

from __future__ import annotations

from pilvi.api.builtin import CONFIG_MAPS, PERSISTENT_VOLUMES, PODS, SECRETS
from pilvi.api.export import VirtualMachineExport
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.kubevirt.snapshot.kinds import CLAIMS, CONTENTS, DATA_VOLUMES, SNAPSHOTS, VOLUME_SNAPSHOTS

__all__ = [
    "CLAIMS",
    "CONFIG_MAPS",
    "CONTENTS",
    "DATA_VOLUMES",
    "EXPORTS",
    "INSTANCES",
    "MACHINES",
    "PODS",
    "SECRETS",
    "SNAPSHOTS",
    "VOLUMES",
    "VOLUME_SNAPSHOTS",
]

EXPORTS = VirtualMachineExport.RESOURCE
VOLUMES = PERSISTENT_VOLUMES
