import errno
import os
import subprocess
from pathlib import Path

import pytest

from pilvi.host.cgroups import CgroupLimits, Cgroups, get_cgroups
from pilvi.host.cgroups.v2 import CgroupsV2
from pilvi.host.cloud import Cloud
from pilvi.lib.deadline import wait_for


@pytest.fixture
def cgroups() -> Cgroups:
    return get_cgroups()


def enter(cgroups: Cgroups, path: str) -> "subprocess.Popen[bytes]":
    """A process in that group of every tree."""
    files = " ".join(map(str, cgroups.entries(path)))
    return subprocess.Popen(["/bin/sh", "-c", f"for file in {files}; do echo 0 > $file; done; exec sleep 1000"])


async def test_life_of_a_group(cloud: Cloud, cgroups: Cgroups) -> None:
    path = cloud.cgroup("u")
    for limits in (None, CgroupLimits(memory_bytes=64 << 20, cpu_milli=500, pids=50)):
        cgroups.create(path, limits)
        cgroups.create(path, limits)
    assert cgroups.find(cloud.cgroup_root) == [cloud.cgroup_root]
    nested = f"{path}/pods/one"
    cgroups.create(nested, None)
    with enter(cgroups, path) as first, enter(cgroups, nested) as second:
        await wait_for(lambda: cgroups.procs(path) == {first.pid, second.pid}, 5, "processes")
        assert cgroups.procs(nested) == {second.pid}
        assert (cgroups.memory_bytes(path) or 0) > 0
        with pytest.raises(OSError, match=os.strerror(errno.EBUSY)):
            cgroups.remove(path)
        cgroups.kill(path)
        assert {first.wait(5), second.wait(5)} == {-9}
    await wait_for(lambda: not cgroups.procs(path), 5, "an empty group")
    cgroups.remove(cloud.cgroup_root)
    cgroups.remove(cloud.cgroup_root)
    assert cgroups.find(cloud.cgroup_root) == []
    assert cgroups.memory_bytes(path) is None


async def test_version_2_on_a_real_tree(cloud: Cloud) -> None:
    """Also on a host of version 1: its version 2 tree has no controllers, but groups, processes and `cgroup.kill`."""
    root = next((path for path in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")) if (path / "cgroup.controllers").exists()), None)
    if root is None:
        pytest.skip("no version 2 tree is mounted on this host")
    cgroups = CgroupsV2(root)
    path = cloud.cgroup("u")
    cgroups.create(path, None)
    with enter(cgroups, path) as process:
        await wait_for(lambda: cgroups.procs(path) == {process.pid}, 5, "the process")
        cgroups.kill(path)
        assert process.wait(5) == -9
    await wait_for(lambda: not cgroups.procs(path), 5, "an empty group")
    cgroups.remove(cloud.cgroup_root)
