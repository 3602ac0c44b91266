"""Brings data from a web server to the disk: broken-off downloads go on, checksums are held, compressed files are unpacked.

Knows nothing of Kubernetes. Used by `providers/cdi/`. What is on the way lies in a folder that the caller names and removes; a call with
the same folder goes on where the last one ended, also after the engine was killed or the machine lost its power. And the other way round:
`providers/kubevirt/` sends disks to clients, raw or compressed (`outgoing.py`).
"""

from pilvi.transfer.checksum import Checksum, parse_checksum, verify
from pilvi.transfer.download import discard, fetch
from pilvi.transfer.meter import Meter
from pilvi.transfer.outgoing import BLOCK_BYTES, Gzip, Outgoing
from pilvi.transfer.receive import find_received, receive
from pilvi.transfer.source import HttpSource, Proxies
from pilvi.transfer.unpack import find_compression, unpack

__all__ = [
    "BLOCK_BYTES",
    "Checksum",
    "Gzip",
    "HttpSource",
    "Meter",
    "Outgoing",
    "Proxies",
    "discard",
    "fetch",
    "find_compression",
    "find_received",
    "parse_checksum",
    "receive",
    "unpack",
    "verify",
]
