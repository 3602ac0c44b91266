"""Every command: help with an example, no import that fails, exit codes, and the reference page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pilvi.cli import options
from pilvi.cli.main import COMMANDS, main, pilvi, show_error
from pilvi.errors import DriverError, TimedOut, UserError
from pilvi.host.cloud import DEFAULT_HOME
from tests.unit.cli.conftest import Invoke
from tests.unit.cli.reference import render_reference

_DEFAULT_HOME = options.DEFAULT_HOME  # before any test puts its own in its place
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def all_commands() -> Iterator[tuple[list[str], click.Command]]:
    def walk(path: list[str], group: click.Group) -> Iterator[tuple[list[str], click.Command]]:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None, name
            yield [*path, name], command
            if isinstance(command, click.Group):
                yield from walk([*path, name], command)

    yield from walk([], pilvi)


@pytest.mark.parametrize("path", [" ".join(path) for path, _ in all_commands()])
def test_every_command_has_help_with_an_example(path: str) -> None:
    result = CliRunner().invoke(pilvi, [*path.split(), "--help"])
    assert result.exit_code == 0, result.output
    assert "Example:" in result.output
    assert f"pilvi {path.split(maxsplit=1)[0]}" in result.output.split("Example:")[1]
    assert len(result.output.splitlines()[2].strip()) > 10


def test_waiting_commands_have_a_timeout_and_listing_ones_an_output() -> None:
    commands = {" ".join(path): {option for parameter in command.params for option in parameter.opts} for path, command in all_commands()}
    for name in (
        "up",
        "down",
        "run",
        "status",
        "doctor",
        "why",
        "report",
        "logs",
        "kit build",
        "cluster create",
        "cluster list",
        "cluster describe",
        "cluster scale",
        "cluster kubeconfig",
        "cluster delete",
        "vm list",
        "vm describe",
        "vm start",
        "vm stop",
        "vm restart",
        "vm pause",
        "vm unpause",
        "vm console",
        "vm vnc",
    ):
        assert "--timeout" in commands[name], name
    for name in ("status", "doctor", "why", "cluster list", "cluster describe", "vm list", "vm describe", "kit list", "version"):
        assert "--output" in commands[name], name
    for name in ("down", "cluster delete"):
        assert "--yes" in commands[name], name


def test_the_table_of_commands_says_what_their_help_says() -> None:
    context = click.Context(pilvi)
    for name, (_, line) in COMMANDS.items():
        command = pilvi.get_command(context, name)
        assert command is not None
        assert line.endswith(".")


def test_the_default_home_is_the_hosts() -> None:
    assert Path(_DEFAULT_HOME) == DEFAULT_HOME


def test_the_reference_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_reference(), "run `python -m tests.unit.cli.reference` to write it anew"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("the disk is full", hint="free some"), 1, ["Error: the disk is full\n", "  free some\n"]),
        (TimedOut("the moon", 3), 3, ["timed out after 3 s waiting for the moon"]),
        (DriverError(["nft"], 1, "no such table"), 1, ["nft", "no such table"]),
        (OSError(28, "No space left on device"), 1, ["No space left on device"]),
        (click.UsageError("what?"), 2, ["what?"]),
        (click.Abort(), 1, ["aborted"]),
    ],
)
def test_errors_become_messages_and_exit_codes(
    error: Exception, code: int, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setitem(COMMANDS, "version", ("version", ""))
    monkeypatch.setattr("sys.argv", ["pilvi", "version"])
    monkeypatch.setattr("pilvi.cli.version.version.callback", lambda **_: fail())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    output = capsys.readouterr()
    assert output.out == ""
    for word in words:
        assert word in output.err
    assert "Traceback" not in output.err


def test_a_hint_of_a_cause_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        try:
            raise UserError("no kit", hint="build it")
        except UserError as e:
            raise DriverError(["x"], 1, "", "it failed") from e
    except DriverError as e:
        show_error(e)
    assert capsys.readouterr().err == "Error: it failed: no kit\n  build it\n"


async def test_wrong_use_is_2(invoke: Invoke) -> None:
    for arguments in (["nonsense"], ["cluster", "scale", "first"], ["cluster", "create", "x", "--workers", "-1"], ["up", "--timeout", "0"]):
        result = await invoke(*arguments)
        assert result.exit_code == 2, arguments


@pytest.mark.parametrize("arguments", [["up"], ["down"], ["run", "--", "true"], ["kit", "build"], ["kit", "import", __file__]])
async def test_commands_for_root_say_so(arguments: list[str], invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    result = await invoke(*arguments)
    assert isinstance(result.exception, UserError)
    assert "root" in str(result.exception)
    assert str(result.exception.hint).startswith("sudo pilvi")
