"""`pilvi doctor`: what this host lacks, and the command that mends it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilvi.cli.options import home_option, output_option, run_async, timeout_option
from pilvi.cli.output import print_data, print_table
from pilvi.cli.progress import Waiting
from pilvi.cli.typed import as_typed

if TYPE_CHECKING:
    from pilvi.host.checks import Finding


@click.command()
@output_option
@timeout_option(60)
@home_option
def doctor(output: str, timeout_s: float, home: Path) -> None:
    """Check what this host lacks, and print the command that mends it. Exit code 1 when something is missing.

    \b
    Example:
      sudo pilvi doctor
    """
    with Waiting() as waiting:
        waiting.show("the checks of this host")
        findings = run_async(_examine(home, timeout_s))
    if output != "table":
        print_data([{"name": f.name, "ok": f.is_ok, "message": as_typed(f.message), "fix": as_typed(f.fix)} for f in findings], output)
    else:
        print_table(("", "CHECK", "FOUND"), [("ok" if f.is_ok else "--", f.name, as_typed(f.message)) for f in findings])
        fixes = list(dict.fromkeys(finding.fix for finding in findings if not finding.is_ok and finding.fix))
        if fixes:
            click.echo("\nWhat mends it:")
            for fix in fixes:
                click.echo(f"  {as_typed(fix)}")
    click.get_current_context().exit(0 if all(finding.is_ok for finding in findings) else 1)


async def _examine(home: Path, timeout_s: float) -> list[Finding]:
    from pilvi.lib.deadline import within
    from pilvi.plane.doctor import examine

    return await within(timeout_s, examine(home), "the checks of this host")
