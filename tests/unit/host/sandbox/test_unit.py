"""A sandbox as a unit."""

from ipaddress import IPv4Network
from pathlib import Path

import msgspec

from pilvi.host.cloud import Cloud
from pilvi.host.sandbox import SandboxSpec, sandbox_unit


def test_unit_runs_the_binary_on_the_document_within_the_machines_size(tmp_path: Path) -> None:
    cloud = Cloud(
        id="tunit",
        home=tmp_path,
        run=tmp_path / "run",
        range=IPv4Network("10.250.1.0/24"),
        transit=IPv4Network("100.64.0.0/24"),
        uid_base=100_000,
        uid_count=1,
    )
    spec = SandboxSpec(
        name="machine-1",
        root=Path("/image"),
        state=tmp_path / "one",
        hostname="one",
        init=("/init",),
        netns="pv-tunit-m-1",
        memory_bytes=1 << 30,
        cpus=2,
        stop_grace_s=33,
    )
    unit = sandbox_unit(cloud, spec, Path("/kit/sandbox-enter"))
    assert unit.argv == ("/kit/sandbox-enter", str(tmp_path / "one/sandbox.json"))
    assert (unit.netns, unit.stop_grace_s, unit.restart) == ("pv-tunit-m-1", 33, "always")
    assert unit.cgroup is not None
    assert (unit.cgroup.memory_bytes, unit.cgroup.cpu_milli) == (1 << 30, 2000)
    for limit, cpu_milli in ((1500, 1500), (3000, 2000)):
        limited = sandbox_unit(cloud, msgspec.structs.replace(spec, cpu_milli=limit), Path("/kit/sandbox-enter"))
        assert limited.cgroup is not None
        assert limited.cgroup.cpu_milli == cpu_milli
