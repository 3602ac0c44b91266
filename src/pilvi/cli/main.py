"""The command `pilvi`: its subcommands, and how errors become messages and exit codes.

Exit codes: 0 done, 1 failed, 2 wrong use, 3 timed out.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from pilvi.cli.lazy import LazyGroup
from pilvi.errors import PilviError, TimedOut, WrongUse, find_hint, format_chain

__all__ = ["COMMANDS", "EXIT_FAILED", "EXIT_TIMED_OUT", "EXIT_WRONG_USE", "exit_code", "main", "pilvi"]

EXIT_FAILED, EXIT_WRONG_USE, EXIT_TIMED_OUT = 1, 2, 3

# Name -> module that holds a command of that name, and its line in the help.
COMMANDS = {
    "up": ("up", "Start the cloud, or bring it up to date, and apply manifests."),
    "down": ("down", "Stop the cloud and keep its data, or remove all of it."),
    "status": ("status", "Show what runs, and why something does not."),
    "doctor": ("doctor", "Check what this host lacks, and how to mend it."),
    "cluster": ("cluster", "Create, list, scale and delete Kubernetes clusters."),
    "vm": ("vm", "List virtual machines, start and stop them, and look at them."),
    "image": ("image", "Keep images in the cloud's own registry."),
    "host": ("host", "List virtual hosts, and let them fail and come back."),
    "why": ("why", "Explain why an object is not ready."),
    "run": ("run", "Run a command in a throw-away cloud."),
    "report": ("report", "Write one archive for a bug report."),
    "kubectl": ("kubectl", "Run kubectl on the platform or on a cluster."),
    "clusterctl": ("clusterctl", "Run clusterctl on the platform."),
    "kubeconfig": ("kubeconfig", "Print the kubeconfig of the platform."),
    "logs": ("logs", "Show the log of a unit."),
    "crds": ("crds", "Print the kinds that pilvi serves."),
    "kit": ("kit", "Build, list, export and import toolchain and images."),
    "version": ("version", "Print versions."),
}


@click.group(
    cls=LazyGroup,
    package="pilvi.cli",
    commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--debug", is_flag=True, help="Show what is done, and a traceback when it fails.")
@click.pass_context
def pilvi(ctx: click.Context, debug: bool) -> None:
    """Turn this machine into a cloud that is used through a Kubernetes API.

    \b
    Example:
      sudo pilvi up
      pilvi cluster create first --workers 2
      pilvi kubectl --cluster first -- get nodes
    """
    ctx.obj = debug
    if debug:
        import logging

        logging.basicConfig(level=logging.DEBUG, format="%(relativeCreated)6d ms %(name)s %(message)s")


def main() -> NoReturn:
    """Entry point of the installed command."""
    try:
        code = pilvi.main(standalone_mode=False)
    except click.ClickException as e:
        e.show()
        sys.exit(e.exit_code)
    except click.Abort:
        click.echo("aborted", err=True)
        sys.exit(EXIT_FAILED)
    except BrokenPipeError:
        sys.stderr.close()  # who reads our output has had enough
        sys.exit(EXIT_FAILED)
    except (PilviError, OSError) as e:
        if "--debug" in sys.argv[1:2]:
            raise
        show_error(e)
        sys.exit(exit_code(e))
    sys.exit(code if isinstance(code, int) else 0)


def exit_code(error: Exception) -> int:
    """What the process ends with when a command raised this."""
    if isinstance(error, TimedOut):
        return EXIT_TIMED_OUT
    return EXIT_WRONG_USE if isinstance(error, WrongUse) else EXIT_FAILED


def show_error(error: Exception) -> None:
    """Print what went wrong and what to do, on standard error."""
    from pilvi.cli.typed import as_typed

    hint = find_hint(error)
    text = format_chain(error).removesuffix(f"; {hint}")
    click.secho(f"Error: {as_typed(text)}", err=True, fg="red")
    if hint:
        click.echo(f"  {as_typed(hint)}", err=True)
