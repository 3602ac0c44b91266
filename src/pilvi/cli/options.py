"""Options and arguments that several commands share, and what they check. Imports nothing that `--help` would have to wait for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pilvi.errors import UserError, WrongUse

if TYPE_CHECKING:
    from pilvi.api import Key

__all__ = [
    "DEFAULT_HOME",
    "check_word",
    "cloud_option",
    "confirm",
    "files_option",
    "home_option",
    "name_home",
    "namespace_option",
    "no_cloud",
    "output_option",
    "parse_name",
    "require_root",
    "run_async",
    "timeout_option",
    "writable_file",
    "yes_option",
]

T = TypeVar("T")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

# The same as host.cloud.DEFAULT_HOME, which costs an import of 0.1 s; a test holds them together.
DEFAULT_HOME = "/var/lib/pilvi"


def _choose_home(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
    """The home as a path that stays right when the process changes its folder."""
    return (value or Path(DEFAULT_HOME)).absolute()


def _choose_cloud(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path:
    """The home of a cloud that is there. One that was named must hold it: no other cloud may take its place."""
    home = _choose_home(context, parameter, value)
    if value is None:
        return home
    try:
        (home / "cloud.json").stat()
    except (FileNotFoundError, NotADirectoryError):
        raise no_cloud(home, WrongUse) from None
    except PermissionError:
        raise WrongUse(f"{home} is closed to you", hint="run it with sudo, or leave --home and PILVI_HOME out") from None
    return home


def no_cloud(home: Path, kind: type[UserError] = UserError) -> UserError:
    """What is raised where a cloud is needed and none is there."""
    hint = "sudo pilvi up makes one; --home or PILVI_HOME names another; for one on another host your kubeconfig needs a context pilvi"
    return kind(f"there is no cloud in {home}", hint=hint)


def name_home(home: Path) -> str:
    """` --home DIR` for a command to be typed next, where it would not find the home by itself."""
    return "" if str(home) in {DEFAULT_HOME, os.environ.get("PILVI_HOME")} else f" --home {home}"


def _home_option(choose: Callable[[click.Context, click.Parameter, Path | None], Path]) -> Callable[[Decorated], Decorated]:
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="PILVI_HOME",
        callback=choose,
        show_envvar=True,
        help=f"Where the cloud keeps its data. Default: {DEFAULT_HOME}.",
    )


home_option = _home_option(_choose_home)
cloud_option = _home_option(_choose_cloud)
output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True, help="Form of the output."
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
namespace_option = click.option("-n", "--namespace", help="Namespace of a NAME without one. Default: default.")
files_option = click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, allow_dash=True, dir_okay=False),
    help="Manifests to apply, - for standard input. May be given more than once.",
)


def timeout_option(default_s: float, help: str = "How long to wait at most.") -> Callable[[Decorated], Decorated]:
    """`--timeout`, in seconds: for the whole command unless `help` says otherwise."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0, min_open=True),
        default=default_s,
        show_default=True,
        metavar="SECONDS",
        help=help,
    )


def writable_file(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    """Check a file that is written at the end of a long work before it begins. Raises BadParameter."""
    if value is None:
        return None
    folder = value.absolute().parent
    if not folder.is_dir():
        raise click.BadParameter(f"there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK) or (value.exists() and not os.access(value, os.W_OK)):
        raise click.BadParameter(f"{value} may not be written by you")
    return value


def parse_name(name: str, namespace: str | None = None) -> Key:
    """`[NAMESPACE/]NAME` as a key; `namespace` is what -n says. Raises UsageError for what no object can be called."""
    from pilvi.api import Key

    key = Key.parse(name, namespace or "default")
    check_word(key.namespace, "namespace")
    check_word(key.name, "name")
    if namespace is not None and namespace != key.namespace:
        raise click.UsageError(f"{name!r} is in namespace {key.namespace}, but -n says {namespace}")
    return key


def check_word(text: str, what: str) -> None:
    """Raise UsageError for what cannot be a name (or a namespace, as `what` says)."""
    import re

    if re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", text) is None:
        raise click.UsageError(f"{text!r} cannot be a {what}: small letters, digits and - only, for example team-a/first")


def require_root(command: str) -> None:
    """Raise UserError unless this process is root."""
    if os.geteuid() != 0:
        raise UserError(f"`pilvi {command}` has to be run as root", hint=f"sudo pilvi {command}")


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal; elsewhere `--yes` is needed. Raises WrongUse or click.Abort."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise WrongUse("this needs a confirmation, and there is no terminal to ask on", hint="say --yes")
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
