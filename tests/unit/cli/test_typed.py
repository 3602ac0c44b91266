"""Commands in hints and closing words can be typed as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from pilvi.cli import options, typed
from pilvi.cli.cluster.create import MEMORY
from pilvi.cli.main import exit_code, pilvi, show_error
from pilvi.cli.typed import as_typed
from pilvi.errors import UserError, WrongUse
from pilvi.plane import default_objects
from tests.unit.cli.conftest import Invoke


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command in a folder of its own, called by its relative path by somebody who is not root."""
    path = tmp_path / "venv" / "bin" / "pilvi"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["venv/bin/pilvi", "up"])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "/usr/bin")
    return path


def test_a_program_that_is_not_on_the_path_is_named_as_it_was_called(program: Path) -> None:
    assert as_typed("`pilvi status` tells; sudo pilvi up starts") == "`venv/bin/pilvi status` tells; sudo venv/bin/pilvi up starts"


def test_on_the_path_its_name_is_enough_but_sudo_has_a_path_of_its_own(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr("sys.argv", [str(program), "up"])  # as a shell calls what it has found
    assert as_typed("pilvi status, sudo pilvi up") == f"pilvi status, sudo {program} up"
    monkeypatch.setattr(typed, "_SUDO_PATH", str(program.parent))
    assert as_typed("pilvi status, sudo pilvi up") == "pilvi status, sudo pilvi up"


def test_root_needs_no_sudo_unless_it_came_by_it(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert as_typed("sudo pilvi up; sudo modprobe loop") == "venv/bin/pilvi up; modprobe loop"
    monkeypatch.setenv("SUDO_UID", "1000")
    assert as_typed("sudo pilvi up") == "sudo venv/bin/pilvi up"


@pytest.mark.parametrize(
    "text", ["another pilvi command works", "the newer pilvi, or", "/var/lib/pilvi up", "apt.pilvi up", "pilvi upwards"]
)
def test_what_is_no_command_stays(text: str, program: Path) -> None:
    assert as_typed(text) == text


def test_inside_another_program_texts_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("sys.argv", ["/usr/bin/pytest"])
    assert as_typed("sudo pilvi up") == "sudo pilvi up"


def test_errors_are_shown_so(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_error(UserError("see `pilvi status`", hint="sudo pilvi up"))
    assert capsys.readouterr().err == "Error: see `venv/bin/pilvi status`\n  sudo venv/bin/pilvi up\n"


# What is wrong use, seen before anything is done


def test_wrong_use_ends_with_2() -> None:
    assert exit_code(WrongUse("no")) == 2
    assert exit_code(UserError("no")) == 1


@pytest.mark.parametrize("value", ["0", "0Gi", "-1Gi", "abc", "1.5Gi", "2G", "2"])
async def test_a_memory_that_no_worker_can_have(value: str, invoke: Invoke) -> None:
    result = await invoke("cluster", "create", "first", "--memory", value, "--dry-run")
    assert result.exit_code == 2
    assert "512Mi or 2Gi" in result.output


def test_the_form_of_memory_is_the_classes() -> None:
    cluster_class = default_objects.cluster_class()[0]
    variable = next(entry for entry in cluster_class["spec"]["variables"] if entry["name"] == "memory")
    assert variable["schema"]["openAPIV3Schema"]["pattern"] == f"^{MEMORY}$"


async def test_a_form_of_output_is_for_a_dry_run(invoke: Invoke) -> None:
    result = await invoke("cluster", "create", "first", "-o", "json")
    assert result.exit_code == 2
    assert "--dry-run" in result.output


def test_two_namespaces_of_one_name_are_wrong_use() -> None:
    assert options.parse_name("team-a/first", "team-a") == ("team-a", "first")
    assert options.parse_name("first", "team-b") == ("team-b", "first")
    assert options.parse_name("first") == ("default", "first")
    with pytest.raises(click.UsageError, match="namespace team-a, but -n says team-b"):
        options.parse_name("team-a/first", "team-b")


async def test_a_namespace_that_is_none(invoke: Invoke) -> None:
    assert (await invoke("cluster", "list", "-n", "Bad")).exit_code == 2


@pytest.mark.parametrize("command", [["report"], ["kit", "export"], ["run", "--report"]])
@pytest.mark.parametrize("place", ["missing/file", "file/below"])
async def test_a_file_that_cannot_be_written(
    command: list[str], place: str, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (tmp_path / "file").touch()
    result = await invoke(*command, str(tmp_path / place), *(["--", "true"] if command[0] == "run" else []))
    assert result.exit_code == 2
    assert re.search(r"there is no folder", result.output)


@pytest.mark.parametrize(
    ("words", "meant"), [(["clutser", "list"], "cluster"), (["cluster", "delte"], "delete"), (["kit", "exprot"], "export")]
)
def test_an_unknown_command_is_answered_with_what_is_like_it(words: list[str], meant: str) -> None:
    result = CliRunner().invoke(pilvi, words)
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in result.output
    assert "Did you mean" not in CliRunner().invoke(pilvi, ["xyz"]).output


def test_no_line_of_a_help_is_cut_off() -> None:
    for words in ([], ["kit"], ["cluster"]):
        assert "..." not in CliRunner().invoke(pilvi, [*words, "--help"]).output.split("Commands:")[1]


async def test_the_next_command_after_a_dry_run_is_applicable(invoke: Invoke) -> None:
    result = await invoke("cluster", "create", "first", "--memory", "512Mi", "--dry-run")
    assert yaml.safe_load(result.stdout)["spec"]["topology"]["variables"] == [{"name": "memory", "value": "512Mi"}]
