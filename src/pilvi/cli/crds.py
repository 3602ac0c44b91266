"""`pilvi crds`: the kinds that pilvi serves, as it installs them."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--output-dir", type=click.Path(path_type=Path, file_okay=False), help="Write one file for each kind into this folder.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True, help="Form of the output.")
def crds(output_dir: Path | None, output: str) -> None:
    """Print the CustomResourceDefinitions of all kinds that pilvi serves, with the support level of each field.

    \b
    Example:
      pilvi crds --output-dir crds/
    """
    import msgspec
    import yaml

    from pilvi.api.crds import all_crds
    from pilvi.cli.output import print_documents

    definitions = all_crds()
    if output_dir is None:
        print_documents(definitions, output)
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    for definition in definitions:
        path = output_dir / f"{definition['metadata']['name']}.{output}"
        if output == "json":
            path.write_bytes(msgspec.json.format(msgspec.json.encode(definition), indent=2) + b"\n")
        else:
            path.write_text(
                yaml.dump(definition, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=140), encoding="utf-8"
            )
    click.echo(f"{len(definitions)} files in {output_dir}")
