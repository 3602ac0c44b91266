"""Finished artefacts with small files, made as the builder makes them."""

from pathlib import Path

from pilvi.kit.artefact import Artefact, seal
from pilvi.kit.store import Store


def finish(store: Store, name: str, *, machine: str = "x86_64", content: str = "", versions: dict[str, str] | None = None) -> Path:
    """Put an artefact called `name` with one binary per name of its recipe into the store; returns its folder."""
    folder = store.path(name)
    (folder / "bin").mkdir(parents=True)
    recipe = store.recipes.get(name)
    for program in recipe.programs if recipe else ():
        path = folder / "bin" / program.name
        path.write_text(f"#!/bin/sh\necho {name} {program.name} {content}\n")
        path.chmod(0o700)
    for link, target in (recipe.links if recipe else {}).items():
        (folder / "bin" / link).symlink_to(target)
    (folder / "plain.txt").write_text(name)
    seal(folder, Artefact(name=name, key=store.keys[name], machine=machine, versions=versions or {"example.org/x": "v1"}))
    return folder
