"""Real sandboxes: the host's own root below, a shell as init."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pilvi.errors import UserError
from pilvi.host.cloud import Cloud
from pilvi.host.netns import ensure_netns
from pilvi.host.sandbox import Bind, SandboxFile, SandboxSpec, prepare_sandbox, private_sysctls, remove_sandbox, sandbox_unit
from pilvi.host.units import Units
from pilvi.kit import get_binary

DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def enter() -> Path:
    try:
        return get_binary("sandbox-enter")
    except UserError as e:
        pytest.skip(f"the kit is not built: {e}")


def make_spec(cloud: Cloud, script: str, **fields: object) -> SandboxSpec:
    return SandboxSpec(
        name="sandbox",
        root=Path("/"),
        state=cloud.home / "machine",
        hostname="inside",
        init=("/bin/sh", "-c", script),
        netns=cloud.netns("m-test"),
        memory_bytes=256 << 20,
        cpus=1,
        **fields,  # type: ignore[arg-type]
    )


async def start(cloud: Cloud, units: Units, spec: SandboxSpec, enter: Path) -> int:
    await ensure_netns(spec.netns)
    prepare_sandbox(spec)
    state = await units.ensure(sandbox_unit(cloud, spec, enter))
    assert state.pid is not None
    return state.pid


async def until(what: str, predicate: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not predicate():
        assert time.monotonic() < deadline, f"no {what} within {DEADLINE_S:g} s"
        await asyncio.sleep(0.02)


def read(path: str | Path) -> str:
    return Path(path).read_text()


def on_host(path: str | Path) -> bool:
    return os.path.lexists(path)


def children(pid: int) -> list[int]:
    # Per thread: a child belongs to the one that made it.
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in read(path).split()]


def has(spec: SandboxSpec, path: str) -> bool:
    return (spec.layer / path).exists()


def make_folder(path: Path, **files: str) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_text(content)
    return path


def leave_link(spec: SandboxSpec, path: str, target: Path) -> None:
    (spec.layer / path).parent.mkdir(parents=True, exist_ok=True)
    (spec.layer / path).symlink_to(target)


def inside(spec: SandboxSpec, path: str) -> str:
    """What the sandbox wrote into its layer, empty while it has not."""
    file = spec.layer / path
    return file.read_text() if file.exists() else ""


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


LOOK = """
set -- /var/seen; mkdir -p $1
echo $$ > $1/pid; hostname > $1/hostname; ls /sys/class/net | tr '\\n' ' ' > $1/links
cat /proc/mounts > $1/mounts; cat /proc/self/cgroup > $1/cgroups; ls /dev > $1/dev
cat /data/given > $1/given
echo 77 > /proc/sys/vm/overcommit_memory && cat /proc/sys/vm/overcommit_memory > $1/private
(echo 1 > /proc/sys/vm/swappiness) 2> $1/refused
echo 1 > /proc/sys/net/ipv4/ip_forward && cat /proc/sys/net/ipv4/ip_forward > $1/forward
(echo x > /data/given) 2> $1/read-only
touch $1/done
while :; do sleep 0.1; done
"""


async def test_sandbox_has_a_world_of_its_own_and_the_host_is_not_changed(cloud: Cloud, enter: Path) -> None:
    given = make_folder(cloud.home / "given", given="from the host")
    spec = make_spec(
        cloud,
        LOOK,
        binds=(Bind(source=given, target=Path("/data"), read_only=True),),
        private_files=private_sysctls(("vm.overcommit_memory",)),
    )
    overcommit = read("/proc/sys/vm/overcommit_memory")
    units = Units(cloud)
    try:
        await start(cloud, units, spec, enter)
        await until("report", lambda: has(spec, "var/seen/done"))
        assert inside(spec, "var/seen/pid").strip() == "1"
        assert inside(spec, "var/seen/hostname").strip() == "inside"
        assert inside(spec, "var/seen/links").split() == ["lo"]
        assert inside(spec, "var/seen/given") == "from the host"
        assert inside(spec, "var/seen/private").strip() == "77"
        assert read("/proc/sys/vm/overcommit_memory") == overcommit
        assert "Read-only" in inside(spec, "var/seen/refused")
        assert "Read-only" in inside(spec, "var/seen/read-only")
        assert inside(spec, "var/seen/forward").strip() == "1"
        assert all(line.endswith(":/") for line in inside(spec, "var/seen/cgroups").splitlines())
        assert str(cloud.home) not in read("/proc/mounts")
        devices = set(inside(spec, "var/seen/dev").split())
        assert {"null", "pts", "shm", "fd"} <= devices
        assert not any(name.startswith(("vd", "sd", "nvme", "loop")) for name in devices)
    finally:
        await units.stop(spec.name, grace_s=0)
    assert not on_host("/var/seen")
    assert read(given / "given") == "from the host"
    remove_sandbox(spec.state)
    assert not on_host(spec.state)


async def test_term_reaches_init_and_its_exit_code_is_the_units(cloud: Cloud, enter: Path) -> None:
    spec = make_spec(cloud, "trap 'echo bye > /var/bye; exit 7' TERM; touch /var/up; while :; do sleep 0.05; done")
    units = Units(cloud)
    pid = await start(cloud, units, spec, enter)
    await until("start", lambda: has(spec, "var/up"))
    await units.stop(spec.name)
    assert inside(spec, "var/bye") == "bye\n"
    assert is_gone(pid)


@pytest.mark.parametrize("victim", ["outer", "inner"])
async def test_death_of_either_half_ends_all_and_the_unit_starts_again_on_the_same_layer(cloud: Cloud, enter: Path, victim: str) -> None:
    script = "echo x >> /var/starts; sleep 1000 & sleep 1000 & while :; do sleep 0.1; done"
    spec = make_spec(cloud, script)
    units = Units(cloud)
    supervision = asyncio.create_task(units.run())
    try:
        pid = await start(cloud, units, spec, enter)
        await until("start", lambda: inside(spec, "var/starts") == "x\n")
        (init,) = children(pid)
        others = children(init)
        assert others
        os.kill(pid if victim == "outer" else init, 9)
        await until("end of every process", lambda: all(is_gone(one) for one in (pid, init, *others)))
        await until("second start", lambda: inside(spec, "var/starts") == "x\nx\n")
        state = units.state(spec.name)
        assert state.restarts == 1
        assert state.pid != pid
    finally:
        supervision.cancel()
        await asyncio.wait([supervision])
        await units.stop(spec.name, grace_s=0)


async def test_symlinks_inside_lead_no_mount_out_of_the_sandbox(cloud: Cloud, enter: Path, tmp_path: Path) -> None:
    given = make_folder(tmp_path / "given", file="given")
    name = f"pilvi-{cloud.id}"
    spec = make_spec(
        cloud,
        f"cat /opt/{name}/new/file > /var/read; while :; do sleep 0.1; done",
        binds=(Bind(source=given, target=Path(f"/var/link/{name}/new")),),
    )
    prepare_sandbox(spec)
    leave_link(spec, "var/link", Path("/opt"))  # as a guest could
    units = Units(cloud)
    try:
        await start(cloud, units, spec, enter)
        await until("read", lambda: inside(spec, "var/read") == "given")
        assert has(spec, f"opt/{name}/new")
        assert not on_host(f"/opt/{name}")
    finally:
        await units.stop(spec.name, grace_s=0)


async def test_layer_files_are_there_at_the_first_start(cloud: Cloud, enter: Path) -> None:
    spec = make_spec(
        cloud,
        "cat /etc/given > /var/read; while :; do sleep 0.1; done",
        layer_files=(SandboxFile(path=Path("/etc/given"), content=b"first"),),
    )
    units = Units(cloud)
    try:
        await start(cloud, units, spec, enter)
        await until("read", lambda: inside(spec, "var/read") == "first")
    finally:
        await units.stop(spec.name, grace_s=0)
    assert not on_host("/etc/given")


def test_root_cgroup_is_refused(enter: Path, tmp_path: Path) -> None:
    (tmp_path / "document").write_text('{"init": ["/bin/true"]}')
    script = (
        'for group in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do [ -e "$group" ] && echo 0 > "$group"; done; exec "$@"'
    )
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", enter, tmp_path / "document"], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert "root cgroup" in done.stderr
