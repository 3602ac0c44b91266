"""Disks of machines as files. Knows nothing of Kubernetes.

formats.py       what an image from outside is, and whether it may be used
convert.py       an image of any known format made a raw file
confine.py       the cage that programs read such images in
files.py         raw disks: made, cloned, grown
overlay.py       qcow2: layers over images, empty disks
seed.py          what cloud-init reads, as files
iso.py           folders of files as read-only disks
capabilities.py  what a file system can do for disks
"""

from pilvi.host.disks.capabilities import Capabilities, find_capabilities
from pilvi.host.disks.convert import convert_image, inspect_image
from pilvi.host.disks.files import allocated_bytes, clone_file, create_disk, empty_disk, free_bytes, grow_disk, need_room, preallocate_disk
from pilvi.host.disks.formats import SECTOR, ImageInfo, SourceImage, find_compression, find_format, read_image
from pilvi.host.disks.iso import folder_disk, write_disk
from pilvi.host.disks.overlay import create_empty, create_overlay
from pilvi.host.disks.seed import config_drive, no_cloud

__all__ = [
    "SECTOR",
    "Capabilities",
    "ImageInfo",
    "SourceImage",
    "allocated_bytes",
    "clone_file",
    "config_drive",
    "convert_image",
    "create_disk",
    "create_empty",
    "create_overlay",
    "empty_disk",
    "find_capabilities",
    "find_compression",
    "find_format",
    "folder_disk",
    "free_bytes",
    "grow_disk",
    "inspect_image",
    "need_room",
    "no_cloud",
    "preallocate_disk",
    "read_image",
    "write_disk",
]
