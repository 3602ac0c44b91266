"""Options and arguments that several commands share, and what they check. Imports nothing that `--help` would have to wait for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilvi.errors import UserError

if TYPE_CHECKING:
    from pilvi.api import Key

__all__ = [
    "DEFAULT_HOME",
    "absolute",
    "confirm",
    "files_option",
    "home_option",
    "namespace_option",
    "output_option",
    "parse_name",
    "require_root",
    "run_async",
    "timeout_option",
    "yes_option",
]

T = TypeVar("T")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

# The same as host.cloud.DEFAULT_HOME, which costs an import of 0.1 s; a test holds them together.
DEFAULT_HOME = "/var/lib/pilvi"


def absolute(_context: click.Context, _parameter: click.Parameter, value: Path) -> Path:
    """A path that stays right when the process changes its folder."""
    return value.absolute()


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="PILVI_HOME",
    default=DEFAULT_HOME,
    callback=absolute,
    show_default=True,
    show_envvar=True,
    help="Where the cloud keeps its data.",
)
output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True, help="Form of the output."
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
namespace_option = click.option("-n", "--namespace", default="default", show_default=True, help="Namespace of a NAME without one.")
files_option = click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, allow_dash=True, dir_okay=False),
    help="Manifests to apply, - for standard input. May be given more than once.",
)


def timeout_option(default_s: float) -> Callable[[Decorated], Decorated]:
    """`--timeout`, in seconds."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0, min_open=True),
        default=default_s,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait at most.",
    )


def parse_name(name: str, namespace: str) -> Key:
    """`[NAMESPACE/]NAME` as a key. Raises UsageError for what no object can be called."""
    import re

    from pilvi.api import Key

    key = Key.parse(name, namespace)
    for part, what in ((key.namespace, "namespace"), (key.name, "name")):
        if re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", part) is None:
            raise click.UsageError(f"{part!r} cannot be a {what}: small letters, digits and - only, for example team-a/first")
    return key


def require_root(command: str) -> None:
    """Raise UserError unless this process is root."""
    if os.geteuid() != 0:
        raise UserError(f"`pilvi {command}` has to be run as root", hint=f"sudo pilvi {command}")


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal; elsewhere `--yes` is needed. Raises UserError or click.Abort."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("this needs a confirmation, and there is no terminal to ask on", hint="say --yes")
    click.confirm(question, abort=True)


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; Ctrl-C ends it with its clean-up."""
    import asyncio

    try:
        return asyncio.run(coroutine)
    except KeyboardInterrupt:
        raise click.Abort from None
    except BaseExceptionGroup as e:
        raise e.exceptions[0] from None
