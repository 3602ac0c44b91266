"""`pilvi host fail|recover`."""

from __future__ import annotations

from pathlib import Path

import click

from pilvi.cli.options import check_word, cloud_option, confirm, run_async, timeout_option, yes_option

__all__ = ["fail", "recover"]

_POLL_S = 0.2
_name = click.argument("name", metavar="NAME")


@click.command()
@_name
@yes_option
@timeout_option(60)
@cloud_option
def fail(name: str, yes: bool, timeout_s: float, home: Path) -> None:
    """Let a virtual host fail: its machines end at once, as if its power were cut, and nothing starts there until it recovers.

    Run strategies start the machines again on other hosts.

    \b
    Example:
      pilvi host fail box-2
    """
    check_word(name, "host")
    confirm(f"End all machines on virtual host {name} at once?", yes)
    run_async(_set(home, name, timeout_s, failed=True))
    click.echo(f"Virtual host {name} has failed. `pilvi host recover {name}` brings it back.")


@click.command()
@_name
@timeout_option(60)
@cloud_option
def recover(name: str, timeout_s: float, home: Path) -> None:
    """Let a virtual host that has failed come back. Machines that have moved away stay where they are.

    \b
    Example:
      pilvi host recover box-2
    """
    check_word(name, "host")
    run_async(_set(home, name, timeout_s, failed=False))
    click.echo(f"Virtual host {name} is back.")


async def _set(home: Path, name: str, timeout_s: float, *, failed: bool) -> None:
    from pilvi.api import Key
    from pilvi.api.builtin import NODES
    from pilvi.cli.connection import open_platform
    from pilvi.cli.host.state import FAILED, is_ready
    from pilvi.cli.progress import Waiting
    from pilvi.errors import UserError
    from pilvi.lib.clock import format_time, utc_now
    from pilvi.lib.deadline import wait_for

    with Waiting() as waiting:
        async with open_platform(home, waiting, timeout_s) as client:
            if await client.find(NODES, Key("", name)) is None:
                raise UserError(f"there is no virtual host {name}", hint="pilvi host list")
            value = format_time(utc_now()) if failed else None
            node = await client.patch(NODES, Key("", name), {"metadata": {"annotations": {FAILED: value}}})

            async def is_so() -> bool:
                return is_ready(await client.get(NODES, Key.of(node))) is not failed

            waiting.show(f"virtual host {name}")
            await wait_for(is_so, timeout_s, f"virtual host {name} to {'fail' if failed else 'recover'}", interval_s=_POLL_S)
