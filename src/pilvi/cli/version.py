"""`pilvi version`."""

from __future__ import annotations

import click

from pilvi import __version__


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
    from pilvi import kit

    versions = kit.kubernetes_versions()
    if output == "table":
        click.echo(f"pilvi {__version__}, Kubernetes {', '.join(versions)}")
        return
    from pilvi.cli.output import print_data

    print_data({"pilvi": __version__, "kubernetes": versions}, output)
