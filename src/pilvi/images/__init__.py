"""Container disks: images of OCI registries that hold a virtual machine's disk. Knows nothing of Kubernetes.

reference.py    what an image is called
registry.py     a registry as its clients see it: manifests and blobs, with every digest verified
layers.py       finds the disk in the layers of an image
store.py        disks that were pulled, kept once for all machines
pulls.py        pulls in the background, with their progress and their failures
"""

from pilvi.images.pulls import Pulled, PullFailed, Pulling, Pulls
from pilvi.images.reference import Reference, parse_reference
from pilvi.images.registry import Credentials, Registry, read_docker_config
from pilvi.images.store import ContainerDisk, ImageStore, Policy

__all__ = [
    "ContainerDisk",
    "Credentials",
    "ImageStore",
    "Policy",
    "PullFailed",
    "Pulled",
    "Pulling",
    "Pulls",
    "Reference",
    "Registry",
    "parse_reference",
    "read_docker_config",
]
