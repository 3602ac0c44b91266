"""Units as real processes: start, adopt, replace, restart, stop."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilvi.errors import TimedOut, UnitFailed, UserError
from pilvi.host import codec
from pilvi.host.cgroups import CgroupLimits
from pilvi.host.cloud import Cloud, save_cloud
from pilvi.host.leftovers import find_leftovers
from pilvi.host.netns import ensure_netns, is_inside, unmount_netns
from pilvi.host.network import Bridge, NamespaceNetwork, Tap, ensure_network, ensure_tap, list_links
from pilvi.host.units import OpenFile, OpenTap, TcpProbe, Units, UnitSpec, logs, process, read_units
from pilvi.host.units import units as units_module
from pilvi.host.units.record import find_record, lock_unit, save_record
from pilvi.lib.deadline import wait_for
from tests.host.unit_specs import script, sleeper


@pytest.fixture
def units(cloud: Cloud) -> Units:
    return Units(cloud)


@asynccontextmanager
async def supervised(units: Units) -> AsyncIterator[Units]:
    task = asyncio.create_task(units.run())
    await asyncio.sleep(0)
    try:
        yield units
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def pid_of(units: Units, name: str = "u") -> int:
    pid = units.state(name).pid
    assert pid is not None
    return pid


async def another_process(units: Units, before: int) -> None:
    await wait_for(lambda: units.state("u").pid not in (None, before), 10, "restart")


async def logged(units: Units, name: str, words: str) -> None:
    await wait_for(lambda: words in units.state(name).log_tail, 5, f"{words} in the log")


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: line.split(":", 1)[1].strip() for line in lines}


async def test_ensure_twice_is_one_process(cloud: Cloud, units: Units) -> None:
    first = await units.ensure(sleeper(cloud))
    assert first.state == "running"
    assert (await units.ensure(sleeper(cloud))).pid == first.pid
    assert (await Units(cloud).ensure(sleeper(cloud))).pid == first.pid
    assert [(state.pid, state.state) for state in read_units(cloud)] == [(first.pid, "running")]
    await units.stop("u")
    await units.stop("u")
    assert units.state("u").state == "absent"
    assert os.listdir(cloud.units_dir) == []


async def test_the_process_is_what_the_specification_says(cloud: Cloud, units: Units) -> None:
    netns = cloud.netns("a")
    await ensure_netns(netns)
    spec = sleeper(
        cloud,
        netns=netns,
        uid=cloud.uid_base,
        gid=cloud.uid_base,
        nofile=1234,
        env={"A": "1"},
        cwd=Path("/usr"),
        cgroup=CgroupLimits(pids=9),
    )
    await units.ensure(spec)
    pid = pid_of(units)
    seen = status(pid)
    uid = str(cloud.uid_base)
    assert seen["Uid"].split() == [uid] * 4
    assert seen["Gid"].split() == [uid] * 4
    assert seen["Groups"] == ""
    assert seen["NoNewPrivs"] == "1"
    assert seen["Umask"] == "0077"
    assert int(seen["CapEff"], 16) == 0
    # Without the two signals beyond 31 that the C library keeps to itself.
    assert int(seen["SigIgn"], 16) & (1 << 31) - 1 == 0
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/usr"
    assert Path(f"/proc/{pid}/environ").read_bytes() == b"A=1\0"
    assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(f"/run/netns/{netns}").st_ino
    assert "1234" in next(line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "open files" in line)
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert units.cgroups.procs(cloud.cgroup("u")) == {pid}
    assert spec.log_path.stat().st_mode & 0o777 == 0o640
    assert spec.log_path.stat().st_uid == 0
    assert (cloud.units_dir / "u.json").stat().st_mode & 0o777 == 0o600


async def test_unit_of_root_keeps_the_usual_umask(cloud: Cloud, units: Units) -> None:
    await units.ensure(sleeper(cloud))
    assert status(pid_of(units))["Umask"] == "0022"


async def test_changed_digest_replaces_and_changed_probe_does_not(cloud: Cloud, units: Units) -> None:
    await units.ensure(sleeper(cloud))
    first = pid_of(units)
    await units.ensure(sleeper(cloud, ready=TcpProbe(host="127.0.0.1", port=1)))
    assert pid_of(units) == first
    assert await units.find_obstacle("u") is not None
    await units.ensure(sleeper(cloud, env={"NEW": "1"}))
    assert pid_of(units) != first
    assert not Path(f"/proc/{first}").exists()


async def test_killed_unit_comes_back_with_what_it_died_of(cloud: Cloud, units: Units) -> None:
    changes: list[str] = []
    units.subscribe(changes.append)
    async with supervised(units):
        await units.ensure(sleeper(cloud))
        for restarts in (1, 2):
            before = pid_of(units)
            os.kill(before, signal.SIGKILL)
            await another_process(units, before)
            assert (units.state("u").restarts, units.state("u").exit) == (restarts, "signal SIGKILL")
    assert set(changes) == {"u"}
    assert len(changes) >= 5


async def test_ensure_does_not_defeat_the_back_off(cloud: Cloud, units: Units) -> None:
    spec = script(cloud, "exit 3")
    async with supervised(units):
        await units.ensure(spec)
        await wait_for(lambda: units.state("u").state == "waiting", 5, "death")
        for _ in range(20):
            await units.ensure(spec)
        assert units.state("u").restarts <= 1
        await wait_for(lambda: units.state("u").restarts >= 3, 10, "three restarts")
        assert units.state("u").exit == "exit code 3"


async def test_ensure_without_supervision_starts_a_dead_unit(cloud: Cloud, units: Units) -> None:
    await units.ensure(sleeper(cloud))
    os.kill(pid_of(units), signal.SIGKILL)
    await wait_for(lambda: units.state("u").state == "waiting", 5, "death")
    assert (await units.ensure(sleeper(cloud))).state == "running"


async def test_a_unit_that_runs_once(cloud: Cloud, units: Units) -> None:
    spec = script(cloud, "echo done; exit 4", restart="never")
    async with supervised(units):
        await units.ensure(spec)
        await wait_for(lambda: units.state("u").state == "exited", 5, "end")
        await units.ensure(spec)
        state = units.state("u")
        assert (state.state, state.exit, state.log_tail) == ("exited", "exit code 4", "done\n")
        await wait_for(lambda: read_units(cloud)[0].exit == "exit code 4", 5, "the exit in the record")
        async with supervised(Units(cloud)) as other:
            await other.ensure(spec)
            assert other.state("u").exit == "exit code 4"
        await units.stop("u")
        await units.ensure(spec)
        assert units.state("u").restarts == 0


async def test_units_outlive_the_engine_and_are_adopted(cloud: Cloud) -> None:
    """Another process starts the unit and is killed; this one takes it over, sees its end, and restarts it."""
    save_cloud(cloud)
    spec = sleeper(cloud)
    (cloud.home / "spec.json").write_bytes(codec.encode(spec))
    engine = (
        "import asyncio, os, pathlib, sys\n"
        "from pilvi.host import codec\n"
        "from pilvi.host.cloud import get_cloud\n"
        "from pilvi.host.units import Units, UnitSpec\n"
        "home = pathlib.Path(sys.argv[1])\n"
        "asyncio.run(Units(get_cloud(home)).ensure(codec.decode((home / 'spec.json').read_bytes(), UnitSpec)))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", engine, str(cloud.home))
    assert await process.wait() == -signal.SIGKILL
    units = Units(cloud)
    first = units.state("u")
    assert first.state == "running"
    async with supervised(units):
        assert (await units.ensure(spec)).pid == first.pid
        os.kill(pid_of(units), signal.SIGTERM)
        assert first.pid is not None
        await another_process(units, first.pid)
        assert units.state("u").exit == "unknown"


async def test_run_adopts_what_died_while_nobody_looked(cloud: Cloud, units: Units) -> None:
    await units.ensure(sleeper(cloud))
    units.close()
    os.kill(pid_of(units), signal.SIGKILL)
    later = Units(cloud)
    async with supervised(later):
        await wait_for(lambda: later.state("u").state == "running" and later.state("u").restarts == 1, 10, "restart")


async def test_who_asks_for_what_died_while_nobody_looked_need_not_wait(cloud: Cloud, units: Units) -> None:
    """Engine and API server may die together; the next engine waits for an API server that it has just asked for."""
    spec = sleeper(cloud)
    await units.ensure(spec)
    units.close()
    os.kill(pid_of(units), signal.SIGKILL)
    await wait_for(lambda: units.state("u").state == "waiting", 5, "death")
    later = Units(cloud)
    async with supervised(later):
        assert (await later.ensure(spec)).state == "running"
        await later.wait_ready("u", 5)


async def test_a_process_in_a_namespace_that_was_made_anew_is_replaced(cloud: Cloud, units: Units) -> None:
    netns = cloud.netns("a")
    await ensure_netns(netns)
    spec = sleeper(cloud, netns=netns)
    first = (await units.ensure(spec)).pid
    assert (await units.ensure(spec)).pid == first
    await unmount_netns(netns)
    await ensure_netns(netns)
    second = (await units.ensure(spec)).pid
    assert second != first
    assert second is not None
    assert is_inside(second, netns)
    assert (await units.ensure(spec)).pid == second


async def test_records_from_before_a_reboot_are_forgotten(cloud: Cloud, units: Units) -> None:
    await units.ensure(sleeper(cloud))
    record = find_record(cloud.units_dir, "u")
    assert record is not None
    await units.stop("u")
    save_record(cloud.units_dir, msgspec.structs.replace(record, process=msgspec.structs.replace(record.process, boot="earlier")))
    async with supervised(units):
        await wait_for(lambda: units.state("u").state == "absent", 5, "the record to go")


async def test_stop_asks_first_and_kills_everything_after_the_grace(cloud: Cloud, units: Units) -> None:
    polite = script(cloud, "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done", "polite")
    stubborn = script(
        cloud, "trap '' TERM; setsid sleep 1000 & setsid sleep 1001 & echo up; while :; do sleep 0.05; done", "stubborn", stop_grace_s=0.3
    )
    for spec in (polite, stubborn):
        await units.ensure(spec)
        await logged(units, spec.name, "up")
    await wait_for(lambda: len(units.cgroups.procs(cloud.cgroup("stubborn"))) >= 3, 5, "children")
    children = units.cgroups.procs(cloud.cgroup("stubborn"))
    await asyncio.gather(units.stop("polite"), units.stop("stubborn"))
    assert polite.log_path.read_text() == "up\nbye\n"
    assert not any(Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text() for pid in children)
    assert not any(path.exists() for path in units.cgroups.entries(cloud.cgroup("stubborn")))


async def test_what_a_killed_process_left_behind_is_cleared_before_the_restart(cloud: Cloud, units: Units) -> None:
    spec = script(cloud, "setsid sleep 1000 & exec sleep 1001")
    async with supervised(units):
        await units.ensure(spec)
        await wait_for(lambda: len(units.cgroups.procs(cloud.cgroup("u"))) == 2, 5, "child")
        old = units.cgroups.procs(cloud.cgroup("u"))
        os.kill(pid_of(units), signal.SIGKILL)
        await wait_for(lambda: len(units.cgroups.procs(cloud.cgroup("u")) - old) == 2, 10, "restart")
        assert not units.cgroups.procs(cloud.cgroup("u")) & old


async def test_stop_while_a_restart_is_due(cloud: Cloud, units: Units) -> None:
    async with supervised(units):
        await units.ensure(script(cloud, "exit 1"))
        await wait_for(lambda: units.state("u").restarts >= 2, 10, "restarts")
        await units.stop("u")
        assert units.state("u").state == "absent"
    assert os.listdir(cloud.units_dir) == []


async def test_two_that_want_the_same_make_one(cloud: Cloud) -> None:
    states = await asyncio.gather(*(Units(cloud).ensure(sleeper(cloud)) for _ in range(6)))
    assert len({state.pid for state in states}) == 1


async def test_killed_in_the_middle_of_a_start(cloud: Cloud, units: Units) -> None:
    """The launcher holds the lock itself: whoever comes next waits until the record is there."""
    starting = asyncio.create_task(units.ensure(sleeper(cloud)))
    await wait_for(lambda: starting.done() or units.cgroups.procs(cloud.cgroup_root), 10, "the launcher", interval_s=0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    state = await Units(cloud).ensure(sleeper(cloud))
    assert units.cgroups.procs(cloud.cgroup("u")) == {state.pid}


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"argv": ("no-such-program",)}, UserError, "not a program"),
        ({"netns": "pv-none"}, UnitFailed, "no network namespace pv-none"),
        ({"cwd": Path("/none")}, UnitFailed, "/none"),
        ({"uid": 2**33}, UnitFailed, "cannot start"),
        ({"log_path": Path("/dev/null/u.log")}, OSError, "/dev/null"),
    ],
)
async def test_what_cannot_start_says_why_and_leaves_nothing(
    cloud: Cloud, units: Units, fields: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        await units.ensure(msgspec.structs.replace(sleeper(cloud), **fields))
    assert units.state("u").state == "absent"
    assert units.cgroups.procs(cloud.cgroup_root) == set()


async def test_restart_waits_for_a_namespace_that_is_gone(cloud: Cloud, units: Units) -> None:
    from pilvi.host.network import delete_netns

    netns = cloud.netns("a")
    await ensure_netns(netns)
    async with supervised(units):
        await units.ensure(sleeper(cloud, netns=netns))
        await delete_netns(netns)
        os.kill(pid_of(units), signal.SIGKILL)
        await wait_for(lambda: "no network namespace" in (units.state("u").exit or ""), 10, "the reason")
        assert units.state("u").state == "waiting"
        await ensure_netns(netns)
        await wait_for(lambda: units.state("u").state == "running", 10, "restart")


async def test_wait_ready(cloud: Cloud, units: Units) -> None:
    netns = cloud.netns("a")
    await ensure_netns(netns)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = f"sleep 0.2; exec {sys.executable} -m http.server {port} --bind 127.0.0.1"
    await units.ensure(script(cloud, server, netns=netns, ready=TcpProbe(host="127.0.0.1", port=port)))
    assert "refused" in (await units.find_obstacle("u") or "")
    await units.wait_ready("u", 20)
    assert await units.find_obstacle("u") is None


async def test_wait_ready_of_what_dies_or_never_answers(cloud: Cloud, units: Units) -> None:
    probe = TcpProbe(host="127.0.0.1", port=1)
    await units.ensure(script(cloud, "echo out of luck; exit 7", "dies", ready=probe))
    with pytest.raises(UnitFailed, match=r"(?s)exit code 7.*out of luck"):
        await units.wait_ready("dies", 10)
    await units.ensure(sleeper(cloud, "silent", ready=probe))
    with pytest.raises(TimedOut, match=r"unit silent to be ready: .*refused"):
        await units.wait_ready("silent", 0.2)
    with pytest.raises(UnitFailed, match="is not there"):
        await units.wait_ready("absent", 1)


async def test_memory_limit_and_figure(cloud: Cloud, units: Units) -> None:
    hungry = "import time\nblock = b'x' * (40 << 20)\nprint('full', flush=True)\ntime.sleep(1000)"
    spec = msgspec.structs.replace(script(cloud, ""), argv=(sys.executable, "-c", hungry), cgroup=CgroupLimits(memory_bytes=200 << 20))
    await units.ensure(spec)
    await wait_for(lambda: "full" in units.state("u").log_tail, 10, "memory")
    # Version 1 counts in batches for each processor; a figure within a tenth is what a person needs.
    assert 36 << 20 < (units.state("u").memory_bytes or 0) < 70 << 20
    await units.ensure(msgspec.structs.replace(spec, cgroup=CgroupLimits(memory_bytes=20 << 20), restart="never"))
    await wait_for(lambda: units.state("u").state == "exited", 20, "the kernel to end it")
    assert units.state("u").exit == "signal SIGKILL"


async def test_stop_all_and_leftovers(cloud: Cloud, units: Units) -> None:
    for name in ("a", "b", "c"):
        await units.ensure(sleeper(cloud, name))
    kinds = {leftover.kind for leftover in await find_leftovers(cloud)}
    assert kinds == {"process", "cgroup", "file"}
    await units.stop_all()
    assert units.states() == []
    assert {leftover.kind for leftover in await find_leftovers(cloud)} == {"file"}


async def test_lock_waits_for_the_other(cloud: Cloud) -> None:
    order: list[str] = []

    async def other() -> None:
        async with lock_unit(cloud.units_dir, "u"):
            order.append("second")

    async with lock_unit(cloud.units_dir, "u"):
        task = asyncio.create_task(other())
        await asyncio.sleep(0.05)
        order.append("first")
    await task
    assert order == ["first", "second"]


async def test_a_file_that_is_only_added_to(cloud: Cloud, units: Units, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cloud.home / "serial.log"
    opened = (OpenFile(path=path, append=True),)
    # It may add to it; what it would have to open by its path it may not.
    text = f"echo one >&10; cat {path}; sleep 1000"
    log = cloud.home / "logs" / "u.log"
    spec = UnitSpec(name="u", argv=("bash", "-c", text), log_path=log, uid=cloud.uid_base, gid=cloud.uid_base, descriptors=opened)
    await units.ensure(spec)
    await logged(units, "u", "ermission denied")
    assert (path.read_text(), path.stat().st_uid, path.stat().st_mode & 0o777) == ("one\n", 0, 0o640)
    await units.stop("u")
    await units.ensure(spec)
    await wait_for(lambda: path.read_text() == "one\none\n", 5, "the second line")
    monkeypatch.setattr(logs, "LOG_LIMIT_BYTES", 4)
    monkeypatch.setattr(units_module, "_LOG_CHECK_S", 0.01)
    async with supervised(units):
        await wait_for(lambda: path.read_text() == "", 5, "a log that is kept short")


def test_launcher_runs_on_the_bare_interpreter() -> None:
    """`-I -S`: nothing of the environment is imported, so that starting a unit costs milliseconds."""
    launcher = Path(__file__).parents[2] / "src/pilvi/host/units/launch.py"
    shown = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import runpy; runpy.run_path({str(launcher)!r}, run_name='x')"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stderr == ""


async def test_records_are_for_root_only(cloud: Cloud, units: Units) -> None:
    await units.ensure(sleeper(cloud))
    os.seteuid(65534)
    try:
        with pytest.raises(UserError, match="readable by root only"):
            read_units(cloud)
    finally:
        os.seteuid(0)


async def test_a_full_disk_ends_nobody(cloud: Cloud, units: Units, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a log that cannot be set aside nor a record that cannot be written; the unit that died meanwhile comes back."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    shortened: list[Path] = []

    def shorten(path: Path) -> None:
        shortened.append(path)
        refuse()

    monkeypatch.setattr(units_module, "_LOG_CHECK_S", 0.01)
    monkeypatch.setattr(logs, "shorten", shorten)
    await units.ensure(sleeper(cloud))
    async with supervised(units):
        await wait_for(lambda: len(shortened) > 4, 5, "every log to be tried again and again")
        assert len({*shortened}) == 2
        monkeypatch.setattr(units_module, "save_record", refuse)
        before = pid_of(units)
        os.kill(before, signal.SIGKILL)
        await another_process(units, before)


async def test_a_unit_whose_lock_cannot_be_had_is_looked_at_again(cloud: Cloud, units: Units, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []
    real = lock_unit

    def lock(units_dir: Path, name: str) -> AbstractAsyncContextManager[int]:
        if len(refused) < 2:
            refused.append(name)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(units_dir, name)

    await units.ensure(sleeper(cloud))
    async with supervised(units):
        monkeypatch.setattr(units_module, "_REFUSED_RETRY_S", 0.01)
        monkeypatch.setattr(units_module, "lock_unit", lock)
        before = pid_of(units)
        os.kill(before, signal.SIGKILL)
        await another_process(units, before)
    assert refused == ["u", "u"]


async def test_a_launcher_that_hangs_is_ended_and_reaped(cloud: Cloud, units: Units, monkeypatch: pytest.MonkeyPatch) -> None:
    spawned: list[int] = []
    real = os.posix_spawn

    def spawn(*arguments: Any, **options: Any) -> int:
        spawned.append(real(*arguments, **options))
        return spawned[-1]

    monkeypatch.setattr(os, "posix_spawn", spawn)
    monkeypatch.setattr(process, "_LAUNCH_TIMEOUT_S", 1.0)
    spec = sleeper(cloud)
    spec.log_path.parent.mkdir()
    os.mkfifo(spec.log_path)  # opening it for writing waits for a reader
    with pytest.raises(UnitFailed, match="did not begin within 1 s"):
        await units.ensure(spec)
    assert not Path(f"/proc/{spawned[0]}").exists()
    assert units.state("u").state == "absent"
    spec.log_path.unlink()
    assert (await units.ensure(spec)).state == "running"


async def test_a_stop_that_is_cancelled_can_be_begun_again_with_less_grace(cloud: Cloud, units: Units) -> None:
    async with supervised(units):
        await units.ensure(script(cloud, "trap '' TERM; echo deaf; while :; do sleep 0.1; done"))
        await logged(units, "u", "deaf")
        before = pid_of(units)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await units.stop("u", 60)
        assert pid_of(units) == before
        await units.stop("u", 0)
        assert units.state("u").state == "absent"
        assert not Path(f"/proc/{before}").exists()


async def test_hollow_capabilities_are_held_and_change_nothing(cloud: Cloud, units: Units) -> None:
    netns = cloud.netns("hollow")
    await ensure_netns(netns)
    text = "id -u; grep ^Cap[PE] /proc/self/status; ip link add name x type bridge; ip link; sleep 1000"
    net_admin = 12
    spec = script(cloud, text, netns=netns, uid=cloud.uid_base, gid=cloud.uid_base, hollow_capabilities=(net_admin,))
    await units.ensure(spec)
    await wait_for(lambda: "LOOPBACK" in spec.log_path.read_text(), 10, "all of its words")
    said = spec.log_path.read_text().split()
    assert said[0] == str(cloud.uid_base)
    assert [int(said[said.index(name) + 1], 16) for name in ("CapPrm:", "CapEff:")] == [1 << net_admin] * 2
    assert [link.name for link in await list_links(netns)] == ["lo"]


async def test_a_unit_is_handed_files_that_its_user_may_not_open(cloud: Cloud, units: Units) -> None:
    secret, layer = cloud.home / "secret", cloud.home / "layer"
    secret.write_text("from the file\n")
    layer.write_text("")
    for path in (secret, layer):
        path.chmod(0o600)
    # bash, since dash knows descriptors of one digit only.
    text = f"cat {secret} || cat <&10; echo written >&11; echo no >&10; sleep 1000"
    files = (OpenFile(path=secret), OpenFile(path=layer, writable=True))
    log = cloud.home / "logs" / "u.log"
    spec = UnitSpec(name="u", argv=("bash", "-c", text), log_path=log, uid=cloud.uid_base, gid=cloud.uid_base, descriptors=files)
    await units.ensure(spec)
    await wait_for(lambda: layer.read_text() == "written\n", 5, "the write")
    tail = units.state("u").log_tail
    assert "from the file" in tail
    assert "Permission denied" in tail
    await logged(units, "u", "Bad file descriptor")
    assert secret.read_text() == "from the file\n"


async def test_a_unit_is_handed_a_tap_of_another_namespace(cloud: Cloud, units: Units) -> None:
    there, here = cloud.netns("r"), cloud.netns("m")
    await ensure_netns(there)
    await ensure_netns(here)
    await ensure_network(NamespaceNetwork(netns=there, bridges=(Bridge("br0"),)))
    await ensure_tap(Tap(netns=there, name="m1", master="br0"))
    spec = sleeper(cloud, netns=here, uid=cloud.uid_base, gid=cloud.uid_base, descriptors=(OpenTap(name="m1", netns=there),))
    state = await units.ensure(spec)
    assert state.pid is not None
    assert is_inside(state.pid, here)
    assert "iff:\tm1" in Path(f"/proc/{state.pid}/fdinfo/10").read_text()


async def test_a_unit_without_its_descriptors_does_not_start(cloud: Cloud, units: Units) -> None:
    with pytest.raises(UnitFailed, match="no-such-file"):
        await units.ensure(sleeper(cloud, descriptors=(OpenFile(path=cloud.home / "no-such-file"),)))
    with pytest.raises(UnitFailed, match="tap m1"):
        await units.ensure(sleeper(cloud, descriptors=(OpenTap(name="m1", netns=None),)))
    assert units.state("u").state == "absent"
