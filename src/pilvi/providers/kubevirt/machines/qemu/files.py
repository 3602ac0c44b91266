"""Makes the files that a machine under QEMU has to itself. Each is made once and kept over restarts of the same instance."""

from __future__ import annotations

from pilvi.host.disks import config_drive, create_empty, create_overlay, no_cloud, write_disk
from pilvi.lib.disk import on_disk
from pilvi.providers.kubevirt.machines.qemu.drives import MachineFiles
from pilvi.providers.kubevirt.machines.qemu.state import link_shared
from pilvi.providers.kubevirt.machines.volumes import CloudInitDisk, EmptyDisk, FilesDisk, ImageDisk, MachineVolume, VolumeDisk

__all__ = ["prepare_files"]


async def prepare_files(files: MachineFiles, volumes: tuple[MachineVolume, ...]) -> None:
    """Make what is missing. May be called while the machine runs.

    Raises UserError (an image that is larger than its disk, a full disk), DriverError, OSError.
    """
    files.disks.mkdir(mode=0o700, parents=True, exist_ok=True)
    for volume in volumes:
        await _prepare(files, volume)
    if not files.serial_log.exists():
        files.serial_log.touch(mode=0o600)


async def _prepare(files: MachineFiles, volume: MachineVolume) -> None:
    layer, seed = files.layer(volume.name), files.seed(volume.name)
    match volume:
        case ImageDisk():
            await link_shared(volume.path, files.base(volume.name))
            if not layer.exists():
                await create_overlay(layer, files.base(volume.name), volume.format, volume.size_bytes)
        case VolumeDisk(ephemeral=True) if not layer.exists():
            await create_overlay(layer, volume.path, "raw", volume.size_bytes)
        case EmptyDisk() if not layer.exists():
            await create_empty(layer, volume.size_bytes)
        case CloudInitDisk() if not seed.exists():
            # What a machine was made with stays, as it does for KubeVirt's until the guest is made anew.
            await on_disk(write_disk, seed, *_seed(volume))
        case FilesDisk(files=dict(content)):
            await on_disk(write_disk, seed, volume.label, content)
        case _:
            pass


def _seed(volume: CloudInitDisk) -> tuple[str, dict[str, bytes]]:
    make = no_cloud if volume.source == "NoCloud" else config_drive
    meta_data = {name.replace("_", "-"): value for name, value in volume.meta_data.items()}
    return make(volume.user_data or b"", meta_data, volume.network_data, volume.public_keys)
