"""Both versions on folders that look like the kernel's; tests/host has the real ones."""

from pathlib import Path

import pytest

from pilvi.host.cgroups import CgroupLimits
from pilvi.host.cgroups.interface import find_cgroups
from pilvi.host.cgroups.v1 import CgroupsV1
from pilvi.host.cgroups.v2 import CgroupsV2
from pilvi.host.mounts import Mount


def mount(point: Path, fs_type: str, options: str) -> Mount:
    return Mount(point, fs_type, fs_type, options)


def test_version_1_with_an_empty_version_2_tree(tmp_path: Path) -> None:
    table = [
        mount(tmp_path / "memory", "cgroup", "rw,memory"),
        mount(tmp_path / "cpu", "cgroup", "rw,cpu,cpuacct"),
        mount(tmp_path / "systemd", "cgroup", "rw,xattr,name=systemd"),
        mount(tmp_path / "unified", "cgroup2", "rw"),
    ]
    found = find_cgroups(table)
    assert isinstance(found, CgroupsV1)
    assert found.entries("a/b") == [tmp_path / name / "a/b/cgroup.procs" for name in ("cpu", "memory", "systemd", "unified")]


def test_version_2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    found = find_cgroups([mount(tmp_path, "cgroup2", "rw,nsdelegate")])
    assert isinstance(found, CgroupsV2)
    assert found.entries("a/b") == [tmp_path / "a/b/cgroup.procs"]


def test_none_without_a_memory_controller(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("\n")
    assert find_cgroups([]) is None
    assert find_cgroups([mount(tmp_path, "cgroup2", "rw")]) is None


class Tree:
    """A version 2 tree of ordinary files: enough for what `create` writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for group in (root, root / "pilvi-x", root / "pilvi-x/etcd"):
            group.mkdir(exist_ok=True)
            (group / "cgroup.controllers").write_text("cpuset cpu io memory pids hugetlb\n")
            (group / "cgroup.subtree_control").write_text("memory\n")
            for name in ("memory.max", "cpu.max", "pids.max"):
                (group / name).write_text("")

    def read(self, name: str) -> str:
        return (self.root / name).read_text()


def test_version_2_limits_and_controllers(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree")
    cgroups = CgroupsV2(tree.root)
    cgroups.create("pilvi-x/etcd", CgroupLimits(memory_bytes=1 << 30, cpu_milli=1500, pids=100))
    assert tree.read("cgroup.subtree_control") == "+cpu +cpuset +io +pids"
    assert tree.read("pilvi-x/cgroup.subtree_control") == "+cpu +cpuset +io +pids"
    assert tree.read("pilvi-x/etcd/memory.max") == "1073741824"
    assert tree.read("pilvi-x/etcd/cpu.max") == "150000 100000"
    assert tree.read("pilvi-x/etcd/pids.max") == "100"
    cgroups.create("pilvi-x/etcd", None)
    assert tree.read("pilvi-x/etcd/memory.max") == "max"
    assert tree.read("pilvi-x/etcd/cpu.max") == "max 100000"


def test_version_2_missing_controller_matters_only_with_a_limit(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "tree")
    (tree.root / "pilvi-x/etcd/cgroup.controllers").write_text("")
    (tree.root / "pilvi-x/etcd").chmod(0o500)
    (tree.root / "pilvi-x/etcd/memory.max").unlink()
    CgroupsV2(tree.root).create("pilvi-x/etcd", CgroupLimits(pids=5))
    assert not (tree.root / "pilvi-x/etcd/memory.max").exists()
    assert tree.read("pilvi-x/etcd/pids.max") == "5"


def test_memory_leaves_page_cache_out(tmp_path: Path) -> None:
    for cgroups, root, stat in (
        (CgroupsV1({"memory": tmp_path / "v1"}), "v1", "cache 900\ntotal_cache 900\ntotal_rss 70\ntotal_shmem 20\ntotal_swap 10\n"),
        (CgroupsV2(tmp_path / "v2"), "v2", "anon 80\nfile 900\nshmem 20\n"),
    ):
        group = tmp_path / root / "g"
        group.mkdir(parents=True)
        (group / "memory.stat").write_text(stat)
        assert cgroups.memory_bytes("g") == 100
        assert cgroups.memory_bytes("none") is None


@pytest.mark.parametrize("version", [1, 2])
def test_absent_groups_are_fine(tmp_path: Path, version: int) -> None:
    cgroups = CgroupsV1({"memory": tmp_path}) if version == 1 else CgroupsV2(tmp_path)
    assert cgroups.procs("none") == set()
    assert cgroups.find("pilvi-") == []
    cgroups.kill("none")
    cgroups.remove("none")
