"""Reads what the virtual host's Node says of the host. Blocks for a few small files."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.providers.kubevirt.virtualhost.node import HostFacts, node_name

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["read_host_facts"]


def read_host_facts(cloud: Cloud) -> HostFacts:
    """The facts of this machine for the Nodes of `cloud`; the name is that of the first."""
    return HostFacts(
        name=node_name(),
        cloud_id=cloud.id,
        address=cloud.host_address.ip,
        kernel=os.uname().release,
        os_image=_os_name(Path("/etc/os-release")),
        machine_id=_first_line(Path("/etc/machine-id")),
        boot_id=_first_line(Path("/proc/sys/kernel/random/boot_id")),
        version=version("pilvi"),
    )


def _os_name(path: Path) -> str:
    for line in path.read_text().splitlines() if path.is_file() else ():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip('"')
    return "Linux"


def _first_line(path: Path) -> str:
    return path.read_text().strip() if path.is_file() else ""
