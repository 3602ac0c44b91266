"""`pilvi vm migrate`."""

from __future__ import annotations

from pathlib import Path

import click

from pilvi.cli.options import cloud_option, namespace_option, parse_name, run_async, timeout_option

__all__ = ["migrate"]

_POLL_S = 0.2


@click.command()
@click.argument("name", metavar="[NAMESPACE/]NAME")
@click.option("--to", "host", metavar="HOST", help="The virtual host that it shall move to. Default: the scheduler chooses.")
@namespace_option
@click.option("--no-wait", is_flag=True, help="Return when it is asked for.")
@timeout_option(300)
@cloud_option
def migrate(name: str, host: str | None, namespace: str | None, no_wait: bool, timeout_s: float, home: Path) -> None:
    """Move a running machine to another virtual host; its memory, addresses and connections go along.

    \b
    Example:
      pilvi vm migrate team-a/web
      pilvi vm migrate team-a/web --to box-2
    """
    key = parse_name(name, namespace)
    where = run_async(_migrate(home, str(key), host, None if no_wait else timeout_s, timeout_s))
    click.echo(f"Machine {key} is on virtual host {where}." if where else f"Machine {key} is asked to move.")


async def _migrate(home: Path, name: str, host: str | None, wait_s: float | None, timeout_s: float) -> str:
    from pilvi.api import Key
    from pilvi.api.kubevirt import VirtualMachineInstanceMigration
    from pilvi.cli.connection import open_platform
    from pilvi.cli.progress import Waiting
    from pilvi.cli.vm.state import get_machine
    from pilvi.errors import UserError
    from pilvi.lib.deadline import wait_for

    migrations = VirtualMachineInstanceMigration.RESOURCE
    namespace, _, machine = name.partition("/")
    with Waiting() as waiting:
        async with open_platform(home, waiting, timeout_s) as client:
            await get_machine(client, Key(namespace, machine))
            spec = {"vmiName": machine, **({"addedNodeSelector": {"kubernetes.io/hostname": host}} if host else {})}
            made = await client.create(migrations, {"metadata": {"generateName": "pilvi-migrate-", "namespace": namespace}, "spec": spec})
            if wait_s is None:
                return ""
            state: dict[str, object] = {}

            async def has_ended() -> bool:
                found = await client.get(migrations, Key.of(made))
                state.update((found.get("status") or {}).get("migrationState") or {})
                return (found.get("status") or {}).get("phase") in ("Succeeded", "Failed")

            waiting.show(f"migrate {name}")
            hint = f"pilvi kubectl -- -n {namespace} describe vmim {made['metadata']['name']}"
            await wait_for(has_ended, wait_s, f"machine {name} to move", interval_s=_POLL_S, hint=hint)
            if state.get("failed"):
                raise UserError(f"machine {name} has not moved: {state.get('failureReason') or 'nothing says why'}", hint=hint)
            return str(state.get("targetNode"))
