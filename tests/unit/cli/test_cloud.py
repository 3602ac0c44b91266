"""What `up`, `down` and `run` share, and the throw-away cloud, with everything below them replaced."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from pilvi.cli import throwaway
from pilvi.cli.cloud import follow_engine, hold_home
from pilvi.cli.progress import Waiting
from pilvi.cli.up import parse_range
from pilvi.errors import TimedOut, UserError
from pilvi.host import locks
from pilvi.host.cloud import Cloud
from pilvi.lib.deadline import wait_for
from pilvi.plane.progress import Report, Step, progress_file
from tests.unit.cli.test_contexts import make_cloud


def test_one_command_at_a_time_works_on_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LOCKS", tmp_path / "lock")
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
    assert list((tmp_path / "lock").iterdir()) == []
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
        await wait_for(lambda: "network" in capsys.readouterr().err, 5, "the first step")
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
        run("sh", "-c", f"trap 'echo ended > {began}.end; exit 0' TERM; touch {began}; while :; do sleep 0.05; done")
    )
    await wait_for(began.exists, 10, "the command")
    os.kill(os.getpid(), number)
    with pytest.raises(click.Abort):
        await task
    assert began.with_name(f"{began.name}.end").exists()
    assert lab.steps[-1] == "remove"
    assert list(lab.folder.iterdir()) == []
