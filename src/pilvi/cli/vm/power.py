"""`pilvi vm start|stop|restart|pause|unpause`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilvi.cli.options import cloud_option, namespace_option, parse_name, run_async, timeout_option

if TYPE_CHECKING:
    from pilvi.api import JsonObject, Key

__all__ = ["pause", "restart", "start", "stop", "unpause"]

_POLL_S = 0.2
_no_wait = click.option("--no-wait", is_flag=True, help="Return when it is asked for.")
_name = click.argument("name", metavar="[NAMESPACE/]NAME")
_force = click.option("--force", is_flag=True, help="Do not wait for the guest to power off.")


@click.command()
@_name
@namespace_option
@_no_wait
@timeout_option(300)
@cloud_option
def start(name: str, namespace: str | None, no_wait: bool, timeout_s: float, home: Path) -> None:
    """Start a machine and wait until it runs.

    \b
    Example:
      pilvi vm start team-a/web
    """
    key = parse_name(name, namespace)
    run_async(_machine(home, key, "start", {}, None if no_wait else _is_running, timeout_s))
    click.echo(f"Machine {key} {'is asked to start' if no_wait else 'runs'}.")


@click.command()
@_name
@namespace_option
@_force
@_no_wait
@timeout_option(300)
@cloud_option
def stop(name: str, namespace: str | None, force: bool, no_wait: bool, timeout_s: float, home: Path) -> None:
    """Stop a machine and wait until it is off. Its guest gets the time that terminationGracePeriodSeconds says.

    \b
    Example:
      pilvi vm stop team-a/web
      pilvi vm stop team-a/web --force
    """
    key = parse_name(name, namespace)
    run_async(_machine(home, key, "stop", {"gracePeriod": 0} if force else {}, None if no_wait else _is_off, timeout_s))
    click.echo(f"Machine {key} is {'asked to stop' if no_wait else 'off'}.")


@click.command()
@_name
@namespace_option
@_force
@_no_wait
@timeout_option(300)
@cloud_option
def restart(name: str, namespace: str | None, force: bool, no_wait: bool, timeout_s: float, home: Path) -> None:
    """Stop a machine and start it again, as a new one where nothing but its container disk holds its data.

    \b
    Example:
      pilvi vm restart team-a/web
    """
    key = parse_name(name, namespace)
    body = {"gracePeriodSeconds": 0} if force else {}
    run_async(_machine(home, key, "restart", body, None if no_wait else _is_another, timeout_s))
    click.echo(f"Machine {key} {'is asked to start again' if no_wait else 'runs again'}.")


@click.command()
@_name
@namespace_option
@timeout_option(20)
@cloud_option
def pause(name: str, namespace: str | None, timeout_s: float, home: Path) -> None:
    """Let a machine stand still; its memory and its connections stay.

    \b
    Example:
      pilvi vm pause team-a/web
    """
    key = parse_name(name, namespace)
    run_async(_instance(home, key, "pause", timeout_s))
    click.echo(f"Machine {key} stands still.")


@click.command()
@_name
@namespace_option
@timeout_option(20)
@cloud_option
def unpause(name: str, namespace: str | None, timeout_s: float, home: Path) -> None:
    """Let a paused machine go on.

    \b
    Example:
      pilvi vm unpause team-a/web
    """
    key = parse_name(name, namespace)
    run_async(_instance(home, key, "unpause", timeout_s))
    click.echo(f"Machine {key} goes on.")


Awaited = Callable[["JsonObject | None", "str | None"], bool]
"""Of the instance as it is now, and the UID of the one that was there before."""


async def _machine(home: Path, key: Key, verb: str, body: dict[str, Any], awaited: Awaited | None, timeout_s: float) -> None:
    from pilvi.cli.connection import open_platform
    from pilvi.cli.progress import Waiting
    from pilvi.cli.vm.state import INSTANCES, get_machine, subresource_path
    from pilvi.lib.deadline import wait_for

    with Waiting() as waiting:
        async with open_platform(home, waiting) as client:
            await get_machine(client, key)
            before = _uid(await client.find(INSTANCES, key))
            what = f"{verb} {key}"
            await client.raw("PUT", subresource_path("virtualmachines", key, verb), body=body, what=what)
            if awaited is None:
                return
            told = ""

            async def is_done() -> bool:
                nonlocal told
                vmi = await client.find(INSTANCES, key)
                told = _said(vmi)
                waiting.show(f"{what}{told}", of=what)
                return awaited(vmi, before)

            hint = f"pilvi vm describe {key}"
            await wait_for(is_done, timeout_s, lambda: f"machine {key} to {verb}{told}", interval_s=_POLL_S, hint=hint)


async def _instance(home: Path, key: Key, verb: str, timeout_s: float) -> None:
    from pilvi.cli.connection import open_platform
    from pilvi.cli.progress import Waiting
    from pilvi.cli.vm.state import get_machine, subresource_path

    with Waiting() as waiting:
        async with open_platform(home, waiting, timeout_s) as client:
            await get_machine(client, key)
            await client.raw("PUT", subresource_path("virtualmachineinstances", key, verb), body={}, what=f"{verb} {key}")


def _is_running(vmi: JsonObject | None, _before: str | None) -> bool:
    return ((vmi or {}).get("status") or {}).get("phase") == "Running"


def _is_another(vmi: JsonObject | None, before: str | None) -> bool:
    return _is_running(vmi, before) and _uid(vmi) != before


def _is_off(vmi: JsonObject | None, before: str | None) -> bool:
    """Whether the instance that was there is gone; the next one may be there already."""
    return vmi is None or _uid(vmi) != before


def _uid(vmi: JsonObject | None) -> str | None:
    return None if vmi is None else str(vmi["metadata"]["uid"])


def _said(vmi: JsonObject | None) -> str:
    """What the instance says of why it is not ready, after a colon."""
    from pilvi.runtime import find_condition

    ready = find_condition(vmi or {}, "Ready") or {}
    return f": {ready['message']}" if ready.get("status") != "True" and ready.get("message") else ""
