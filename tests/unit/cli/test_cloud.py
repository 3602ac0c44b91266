"""What `up`, `down` and `run` share, and the throw-away cloud, with everything below them replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import yaml

from pilvi.api import Key
from pilvi.cli import throwaway
from pilvi.cli.cloud import follow_engine, hold_home
from pilvi.cli.progress import Waiting
from pilvi.cli.up import _up, parse_range
from pilvi.errors import TimedOut, UserError, WrongUse
from pilvi.host import locks
from pilvi.host.cloud import Cloud, save_cloud
from pilvi.lib.deadline import wait_for
from pilvi.plane.progress import Report, Step, progress_file
from tests.unit.cli.conftest import Invoke
from tests.unit.cli.test_contexts import kubeconfig, make_cloud


@pytest.fixture(autouse=True)
def lock_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where locks of homes lie."""
    monkeypatch.setattr(locks, "LOCKS", tmp_path.parent / "lock")
    return tmp_path.parent / "lock"


def test_one_command_at_a_time_works_on_a_home(tmp_path: Path, lock_folder: Path) -> None:
    with hold_home(tmp_path / "home"):
        with (
            pytest.raises(UserError, match=f"another pilvi command, process {os.getpid()}, works on") as raised,
            hold_home(tmp_path / "home"),
        ):
            pass
        assert "wait until it has ended" in (raised.value.hint or "")
        assert f"kill {os.getpid()}" in (raised.value.hint or "")
        with hold_home(tmp_path / "other"):
            pass
    with hold_home(tmp_path / "home"):
        pass
    assert not lock_folder.exists()
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("text", ["10.0.0.1/24", "fd00::/64", "nonsense", "10.0.0.0/33"])
def test_a_range_that_is_none_is_wrong_use(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_range(text)


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    made: Cloud = msgspec.structs.replace(make_cloud(tmp_path / "home"), run=tmp_path / "run")
    made.run.mkdir()
    return made


def tell(cloud: Cloud, state: str, *steps: Step, error: str = "", hint: str = "") -> None:
    progress_file(cloud).write_bytes(msgspec.json.encode(Report(1, state, steps, error, hint)))  # type: ignore[arg-type]


async def test_the_engines_steps_are_shown_once(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    tell(cloud, "starting", Step("network", 1, 3), Step("kinds", 2))
    with Waiting() as waiting:
        following = asyncio.create_task(follow_engine(cloud, waiting, 5))
        await wait_for(lambda: "network" in capsys.readouterr().err, 30, "the first step")
        tell(cloud, "ready", Step("network", 1, 3), Step("kinds", 2, 2.5))
        await following
    assert capsys.readouterr().err == "  ✓ kinds (0.5 s)\n"


async def test_an_engine_that_fails_says_why(cloud: Cloud) -> None:
    tell(cloud, "failed", error="etcd died", hint="free some space")
    with Waiting() as waiting, pytest.raises(UserError, match="etcd died") as raised:
        await follow_engine(cloud, waiting, 5)
    assert raised.value.hint == "free some space"


async def test_an_engine_that_hangs_is_named_with_its_last_words(cloud: Cloud) -> None:
    tell(cloud, "starting", Step("kinds and policies", 1))
    log = cloud.home / "logs" / "engine.log"
    log.parent.mkdir(parents=True)
    log.write_text("early\nlast words\n")
    with Waiting() as waiting, pytest.raises(TimedOut, match=r"kinds and policies\n(.|\n)*last words"):
        await follow_engine(cloud, waiting, 0.2)


async def test_an_engine_that_ends_is_not_waited_for(cloud: Cloud) -> None:
    with Waiting() as waiting, pytest.raises(UserError, match="has ended"):
        await follow_engine(cloud, waiting, 60, lambda: True)


class Lab:
    """Records what a throw-away cloud goes through; `fail` makes a step raise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[str] = []
        self.fail: dict[str, BaseException] = {}

    def step(self, name: str) -> Callable[..., Any]:
        async def run(*_: Any, **__: Any) -> Any:
            self.steps.append(name)
            if name in self.fail:
                raise self.fail[name]
            return {"MARK": "set"} if name == "prepare" else None

        return run

    def create(self, home: Path, *_: Any) -> Cloud:
        if "create" in self.fail:
            raise self.fail["create"]
        assert home.stat().st_mode & 0o777 == 0o755
        return make_cloud(home)

    async def remove(self, cloud: Cloud, _: Any) -> None:
        self.steps.append("remove")
        await asyncio.sleep(0)
        cloud.home.rmdir()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = Lab(tmp_path)
    monkeypatch.setattr(throwaway, "FOLDER", tmp_path)
    monkeypatch.setattr("pilvi.cli.cloud.ensure_engine", made.step("engine"))
    monkeypatch.setattr("pilvi.cli.cloud.remove_cloud", made.remove)
    monkeypatch.setattr("pilvi.cli.kit.build_missing", made.step("kit"))
    monkeypatch.setattr("pilvi.cli.report.write", made.step("report"))
    monkeypatch.setattr("pilvi.host.cloud.create_cloud", made.create)
    monkeypatch.setattr("pilvi.plane.platform.settle_version", lambda cloud: cloud)
    monkeypatch.setattr("pilvi.plane.doctor.require_host", made.step("host"))
    monkeypatch.setattr(throwaway, "_prepare", made.step("prepare"))
    return made


async def run(*command: str, report: Path | None = None) -> int:
    return await throwaway.run_in_cloud(list(command), [], None, None, 60, report)


async def test_the_exit_code_is_the_commands_and_nothing_is_left(lab: Lab) -> None:
    assert await run("sh", "-c", 'test "$MARK" = set && exit 7') == 7
    assert lab.steps == ["host", "kit", "engine", "prepare", "remove"]
    assert list(lab.folder.iterdir()) == []
    assert await run("sh", "-c", "kill -9 $$") == 137


@pytest.mark.parametrize("failure", [UserError("the disk is full"), PermissionError(13, "Permission denied"), ValueError("a bug")])
async def test_a_report_that_cannot_be_written_changes_nothing(
    failure: Exception, lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.fail["report"] = failure
    if isinstance(failure, ValueError):  # not even that leaves a cloud behind
        with pytest.raises(ValueError, match="a bug"):
            await run("false", report=lab.folder / "r.tar.gz")
    else:
        assert await run("sh", "-c", "exit 7", report=lab.folder / "r.tar.gz") == 7
        assert "no report: " in capsys.readouterr().err
        lab.fail["prepare"] = UserError("it broke")
        with pytest.raises(UserError, match="it broke"):
            await run("false", report=lab.folder / "r.tar.gz")
    assert lab.steps[-2:] == ["report", "remove"]
    assert list(lab.folder.iterdir()) == []


async def test_a_report_is_kept_on_failure_only(lab: Lab) -> None:
    await run("true", report=lab.folder / "r.tar.gz")
    assert "report" not in lab.steps
    await run("false", report=lab.folder / "r.tar.gz")
    assert lab.steps[-2:] == ["report", "remove"]


@pytest.mark.parametrize("step", ["engine", "prepare"])
async def test_what_fails_on_the_way_is_removed_too(step: str, lab: Lab) -> None:
    lab.fail[step] = UserError("it broke")
    with pytest.raises(UserError, match="it broke"):
        await run("true")
    assert lab.steps[-1] == "remove"
    assert list(lab.folder.iterdir()) == []


async def test_without_a_cloud_only_the_folder_goes(lab: Lab) -> None:
    lab.fail["create"] = UserError("no range is free")
    with pytest.raises(UserError, match="no range"):
        await run("true")
    assert "remove" not in lab.steps
    assert list(lab.folder.iterdir()) == []


async def test_a_command_that_does_not_exist(lab: Lab) -> None:
    with pytest.raises(UserError, match="cannot be run"):
        await run("/does/not/exist")
    assert lab.steps[-1] == "remove"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_command_and_removes_the_cloud(number: signal.Signals, lab: Lab) -> None:
    began = lab.folder.parent / f"began-{number.name}"
    task = asyncio.create_task(
        run("sh", "-c", f"trap 'echo ended > {began}.end; exit 0' TERM INT; touch {began}; while :; do sleep 0.05; done")
    )
    await wait_for(began.exists, 10, "the command")
    os.kill(os.getpid(), number)
    with pytest.raises(click.Abort):
        await task
    assert began.with_name(f"{began.name}.end").exists()
    assert lab.steps[-1] == "remove"
    assert list(lab.folder.iterdir()) == []


async def test_a_command_that_ignores_the_signal_is_killed_with_its_children(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throwaway, "GRACE_S", 0.3)
    pids = lab.folder.parent / "stubborn-pids"
    script = f"trap '' TERM; sleep 1000 & echo $! > {pids}; echo $$ >> {pids}; while :; do sleep 0.05; done"
    task = asyncio.create_task(run("sh", "-c", script))
    await wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2, 10, "the command")
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(click.Abort):
        await asyncio.wait_for(task, 10)
    assert lab.steps[-1] == "remove"
    for pid in pids.read_text().split():
        await wait_for(lambda pid=pid: is_dead(pid), 30, f"the end of process {pid}")  # type: ignore[misc]


async def test_a_second_signal_waits_no_longer(lab: Lab) -> None:
    began = lab.folder.parent / "began-twice"
    task = asyncio.create_task(run("sh", "-c", f"trap 'touch {began}.told' TERM; touch {began}; while :; do sleep 0.05; done"))
    await wait_for(began.exists, 10, "the command")
    os.kill(os.getpid(), signal.SIGTERM)
    await wait_for(began.with_name(f"{began.name}.told").exists, 10, "the signal to be passed on")
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(click.Abort):
        await asyncio.wait_for(task, throwaway.GRACE_S / 2)
    assert lab.steps[-1] == "remove"


def is_dead(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_the_command_may_read_from_the_terminal(tmp_path: Path) -> None:
    """In a process group of its own it would be stopped for that, unless it is given the terminal."""
    program = """
import asyncio, fcntl, termios
from pilvi.cli.throwaway import _execute
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
code = asyncio.run(_execute(["sh", "-c", "read word && echo got $word && exit 5"], {}, []))
input()  # ours again
print("code", code)
"""
    master, slave = os.openpty()
    ended = subprocess.Popen([sys.executable, "-c", program], stdin=slave, stdout=subprocess.PIPE, start_new_session=True, text=True)
    os.close(slave)
    try:
        os.write(master, b"hello\nagain\n")
        assert ended.communicate(timeout=20)[0].split("\n")[:2] == ["got hello", "code 5"]
    finally:
        ended.kill()
        ended.wait()
        os.close(master)


# `up` and `down`


class Up:
    """What `up` does, with engine, kit and API replaced; records the steps."""

    def __init__(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cloud = cloud
        self.steps: list[str] = []
        self.given_s: list[float] = []
        self.wait_error: Exception | None = None
        cloud.home.mkdir()
        (cloud.home / "admin.conf").write_bytes(kubeconfig(server="http://127.0.0.1:1"))

        async def done(*_: Any, **__: Any) -> None:
            return None

        async def engine(_cloud: Cloud, _waiting: Waiting, timeout_s: float, *_: Any, **__: Any) -> None:
            self.given_s.append(timeout_s)
            await asyncio.sleep(0.2)

        async def apply(*_: Any) -> list[Key]:
            return [Key("default", "first"), Key("default", "second")]

        async def wait(_client: Any, _clusters: Any, _waiting: Waiting, deadline: Any, _home: Path) -> None:
            self.given_s.append(deadline.left_s)
            self.steps.append(f"wait, contexts: {self.contexts()}, lock: {self.is_locked()}")
            if self.wait_error:
                raise self.wait_error

        async def tenant(_client: Any, key: Key) -> bytes:
            if key.name == "second":
                raise UserError("it has none yet")
            return kubeconfig(b"tenant")

        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.setattr("pilvi.plane.doctor.require_host", done)
        monkeypatch.setattr("pilvi.cli.kit.build_missing", done)
        monkeypatch.setattr("pilvi.host.cloud.create_cloud", lambda *_: cloud)
        monkeypatch.setattr("pilvi.cli.cloud.ensure_engine", engine)
        monkeypatch.setattr("pilvi.cli.cloud.follow_engine", engine)
        monkeypatch.setattr("pilvi.engine.process.engine_argv", lambda _: ["sleep", "0.5"])
        monkeypatch.setattr("pilvi.cli.manifests.apply", apply)
        monkeypatch.setattr("pilvi.cli.manifests.wait_clusters", wait)
        monkeypatch.setattr("pilvi.cli.connection.get_tenant", tenant)
        monkeypatch.setattr("pilvi.cli.up._print_summary", done)

    async def run(self, *, foreground: bool = False, wait: bool = True) -> int:
        return await _up(self.cloud.home, None, None, None, [], 50, foreground, wait=wait)

    def contexts(self) -> list[str]:
        path = Path(os.environ["KUBECONFIG"])
        return [entry["name"] for entry in yaml.safe_load(path.read_text())["contexts"]] if path.exists() else []

    def is_locked(self) -> bool:
        try:
            with hold_home(self.cloud.home):
                return False
        except UserError:
            return True


@pytest.fixture
def upward(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Up:
    return Up(cloud, monkeypatch)


@pytest.mark.parametrize("foreground", [False, True])
async def test_up_lets_go_of_the_home_and_merges_the_platform_before_it_waits(foreground: bool, upward: Up) -> None:
    assert await upward.run(foreground=foreground) == 0
    assert upward.steps == ["wait, contexts: ['pilvi-abcde'], lock: False"]
    assert upward.contexts() == ["pilvi-abcde", "pilvi-abcde/default/first"]
    assert yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())["current-context"] == "pilvi-abcde"


async def test_up_has_one_deadline_for_engine_and_clusters(upward: Up) -> None:
    await upward.run()
    engine_s, clusters_s = upward.given_s
    assert engine_s <= 50
    assert clusters_s < engine_s - 0.19


async def test_a_user_has_contexts_although_up_times_out(upward: Up) -> None:
    upward.wait_error = TimedOut("cluster default/second", 1)
    with pytest.raises(TimedOut):
        await upward.run()
    assert upward.contexts() == ["pilvi-abcde", "pilvi-abcde/default/first"]


async def test_a_user_has_contexts_without_a_wait(upward: Up) -> None:
    await upward.run(wait=False)
    assert upward.steps == []
    assert upward.contexts() == ["pilvi-abcde", "pilvi-abcde/default/first"]


@pytest.mark.parametrize("words", [[], ["--purge"]])
async def test_down_without_a_cloud_is_done(words: list[str], invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    result = await invoke("down", "--home", str(tmp_path / "none"), *words)
    assert result.exit_code == 0
    assert result.stderr == f"There is no cloud in {tmp_path}/none: nothing to {'remove' if words else 'stop'}.\n"


async def test_down_says_which_cloud_it_asks_about(cloud: Cloud, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    save_cloud(cloud)
    result = await invoke("down", "--home", str(cloud.home), "--purge")
    assert isinstance(result.exception, WrongUse)
    asked: list[str] = []
    monkeypatch.setattr("pilvi.cli.down.confirm", lambda question, _: asked.append(question))

    async def hang(*_: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("pilvi.cli.cloud.stop", hang)
    monkeypatch.setattr("pilvi.cli.cloud.remove_cloud", hang)
    for words, what in (([], "stopped"), (["--purge"], "removed")):
        result = await invoke("down", "--home", str(cloud.home), "--timeout", "0.2", *words)
        assert isinstance(result.exception, TimedOut)
        assert f"cloud abcde to be {what}" in str(result.exception)
    assert asked == [f"Remove cloud abcde in {cloud.home} with all its clusters, machines and disks?"]
