"""What commands print: tables for people, JSON and YAML for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

__all__ = ["print_data", "print_documents", "print_table"]

_GAP = "   "


def print_data(data: Any, form: str) -> None:
    """Print plain data or msgspec structs as `json` or `yaml`."""
    import msgspec

    plain = msgspec.to_builtins(data)
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(plain), indent=2).decode())
    else:
        click.echo(_yaml(plain), nl=False)


def print_documents(documents: Sequence[Any], form: str) -> None:
    """Print Kubernetes objects so that `kubectl apply -f -` takes them: a YAML stream, or a JSON list."""
    if form == "json":
        items = documents[0] if len(documents) == 1 else {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        print_data(items, form)
        return
    click.echo("---\n".join(_yaml(document) for document in documents), nl=False)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "") -> None:
    """Print rows under their columns, as kubectl does it. The last column may be long; it is not padded."""
    widths = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo((indent + _GAP.join(cells)).rstrip())


def _yaml(data: Any) -> str:
    import yaml

    return str(yaml.dump(data, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=140))
