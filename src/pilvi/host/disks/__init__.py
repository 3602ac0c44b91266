"""Disks of machines as files. Knows nothing of Kubernetes.

formats.py  what an image from outside is, and whether it may be used
overlay.py  layers over images, empty disks
seed.py     read-only disks that are made for one machine
"""

from pilvi.host.disks.formats import ImageInfo, read_image
from pilvi.host.disks.overlay import create_disk, create_overlay
from pilvi.host.disks.seed import config_drive, folder_disk, no_cloud, write_disk

__all__ = ["ImageInfo", "config_drive", "create_disk", "create_overlay", "folder_disk", "no_cloud", "read_image", "write_disk"]
