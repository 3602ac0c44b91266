"""`pilvi version`."""

from __future__ import annotations

import re
from pathlib import Path

import click

import pilvi

_PINNED = re.compile(r"^\s*(?:require\s+)?k8s\.io/kubernetes (v[0-9.]+)", re.MULTILINE)


@click.command()
@click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True, help="Form of the output."
)
def version(output: str) -> None:
    """Print the versions of pilvi and of the Kubernetes that it runs.

    \b
    Example:
      pilvi version -o json
    """
    versions = read_kubernetes_versions()
    if output == "table":
        click.echo(f"pilvi {pilvi.__version__}, Kubernetes {', '.join(versions)}")
        return
    from pilvi.cli.output import print_data

    print_data({"pilvi": pilvi.__version__, "kubernetes": versions}, output)


def read_kubernetes_versions() -> list[str]:
    """The same as `kit.kubernetes_versions`, oldest first, without its imports: they cost more than this command may take."""
    folder = Path(pilvi.__file__).parent / "kit" / "modules"
    found = [match[1] for path in folder.glob("kubernetes-*/go.mod") if (match := _PINNED.search(path.read_text(encoding="utf-8")))]
    return sorted(found, key=lambda version: [int(number) for number in version.removeprefix("v").split(".")])
