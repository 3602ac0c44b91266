"""Groups of commands: one that helps after a slip of the pen, and one whose commands are imported when they are run."""

from __future__ import annotations

import importlib
from typing import Any

import click

__all__ = ["Group", "LazyGroup"]


class Group(click.Group):
    """Says what may have been meant by a command that is none."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names. Raises UsageError, with what may have been meant by an unknown one."""
        from pilvi.lib.similar import find_similar  # only after a mistake

        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            meant = find_similar(args[0], known)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {meant!r}?" if meant else ""))
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """Imports a command when it is run, so that `--help` costs no import.

    `commands` maps a name to the module of `package` that holds the command, and to its line in the help.

    The command is the module's attribute of its name, with `_` behind it where Python has that word for itself.
    """

    def __init__(self, *, package: str, commands: dict[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(**options)
        self._package = package
        self._table = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table: from first use to rare use."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module; None for an unknown name."""
        if cmd_name not in self._table:
            return None
        module = importlib.import_module(f"{self._package}.{self._table[cmd_name][0]}")
        command = getattr(module, cmd_name, None) or getattr(module, f"{cmd_name}_")
        if not isinstance(command, click.Command):
            raise TypeError(f"{module.__name__}.{cmd_name} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands from the table, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._table.items()])
