"""Renders docs/reference/cli.md from the commands themselves; `python -m tests.unit.cli.reference` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from pilvi.cli.main import pilvi

INTRODUCTION = """# The command `pilvi`

Made from the commands themselves by `python -m tests.unit.cli.reference`; a test holds it true.

Exit codes: 0 done, 1 failed, 2 wrong use (nothing was changed), 3 timed out. `kubectl`, `clusterctl` and `run` pass on the code of what
they run; `doctor` ends with 1 when something is missing. `pilvi --debug COMMAND` shows what is done, and a traceback when it fails.

`up`, `down`, `run` and `kit` need root. Everything else needs a kubeconfig: root has the administrator's in the cloud's home, others use
the context that `pilvi up` merged into theirs (`$KUBECONFIG`, else `~/.kube/config`; under sudo the file of whoever called it). A home that
`--home` or PILVI_HOME names has to hold a cloud. Without either, and without a cloud on this host, the context `pilvi` is used: that of a
cloud elsewhere. The current context never is, since it may lead to anybody's servers.
"""


def render_reference() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for path, context in _walk(click.Context(pilvi, info_name="pilvi", terminal_width=100, **pilvi.context_settings)):
        parts.append(f"## `{' '.join(path)}`\n\n```\n{context.command.get_help(context).strip()}\n```\n")
    return "\n".join(parts)


def _walk(context: click.Context) -> Iterator[tuple[list[str], click.Context]]:
    command = context.command
    yield context.command_path.split(), context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from _walk(click.Context(child, parent=context, info_name=name, **child.context_settings))


if __name__ == "__main__":
    page = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(render_reference(), encoding="utf-8")
