"""What a cloud has on the host: the same look that `pilvi down --purge` takes."""

import asyncio
from pathlib import Path

from pilvi.host.cloud import get_cloud
from pilvi.host.leftovers import find_leftovers

# Processes have pids in their names, and a platform's own are there all the time.
KINDS = {"namespace", "link", "mount", "loop device", "cgroup"}


def things_of(home: Path) -> set[str]:
    """Names of namespaces, links, mounts, loop devices, groups and machine folders of the cloud in `home`."""
    cloud = get_cloud(home)
    found = {str(leftover) for leftover in asyncio.run(find_leftovers(cloud)) if leftover.kind in KINDS}
    folders = {str(path) for kind in ("machines", "tenants") for path in (home / kind).glob("*")}
    return found | folders
