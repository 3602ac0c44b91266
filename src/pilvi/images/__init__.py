"""Container disks: images of OCI registries that hold a virtual machine's disk. Knows nothing of Kubernetes.

reference.py    what an image is called
registry.py     a registry as its clients see it: manifests and blobs, with every digest verified; endpoint.py where ours is
layers.py       reads the layers of an image, and finds the disk in them
files.py        finds single files of an image, such as a kernel
store.py        disks and files that were pulled, kept once for all machines; records.py what is noted of them
prune.py        removes those that nobody names any more
pulls.py        pulls in the background, with their progress and their failures

And for the cloud's own registry:
bundle.py       images as files, as other tools save them
wrap.py         an image made of a disk
push.py         the registry as those see it who write
"""

from pilvi.images.endpoint import Endpoint
from pilvi.images.pulls import Pulled, PulledFiles, PullFailed, Pulling, Pulls
from pilvi.images.reference import Reference, parse_reference
from pilvi.images.registry import Credentials, Registry, make_docker_config, read_docker_config
from pilvi.images.store import ContainerDisk, ImageStore, Policy

__all__ = [
    "ContainerDisk",
    "Credentials",
    "Endpoint",
    "ImageStore",
    "Policy",
    "PullFailed",
    "Pulled",
    "PulledFiles",
    "Pulling",
    "Pulls",
    "Reference",
    "Registry",
    "make_docker_config",
    "parse_reference",
    "read_docker_config",
]
