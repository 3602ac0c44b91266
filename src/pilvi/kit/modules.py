"""Reads the module folders: which versions their go.mod pins, and the key under which their artefact is stored."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import msgspec

from pilvi.errors import Bug
from pilvi.kit.recipe import Recipe

__all__ = ["compute_key", "get_version", "go_version", "linker_flags", "read_requirements"]

# Part of every key: raised when the layout of artefacts changes, so that no older artefact is taken for a new one.
FORMAT = 1

SOURCE_SUFFIXES = {".go", ".c", ".h", ".s"}


def compute_key(recipe: Recipe) -> str:
    """First 12 hex digits of a SHA-256 over the recipe, go.mod, go.sum and the sources of ours.

    The Go that compiles is not part of it, but go.mod names the oldest one allowed: a machine that imported the artefact has no Go to ask.
    """
    digest = hashlib.sha256(str(FORMAT).encode())
    data = msgspec.to_builtins(recipe, enc_hook=str)
    del data["folder"], data["memory_mb"], data["disk_mb"]  # where it lies and what it costs do not change what comes out
    digest.update(msgspec.json.encode(data, order="sorted"))
    for path in _source_files(recipe):
        digest.update(f"\0{path.relative_to(recipe.folder)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def read_requirements(folder: Path) -> dict[str, str]:
    """Module path -> version, as `v1.2.3`, of everything that the folder's go.mod requires; a replacement's version where there is one."""
    text = (folder / "go.mod").read_text()
    required = dict(re.findall(r"^(?:require)?\s+(\S+) (v\S+)", text, re.MULTILINE))
    return required | dict(re.findall(r"^(?:replace)?\s+(\S+)(?: v\S+)? => \S+ (v\S+)", text, re.MULTILINE))


def get_version(folder: Path, module: str) -> str:
    """The version that the folder's go.mod requires of `module`. Raises Bug when it requires none."""
    try:
        return read_requirements(folder)[module]
    except KeyError as e:
        raise Bug(f"{folder / 'go.mod'} requires no module {module}") from e


def go_version(folder: Path) -> tuple[int, ...]:
    """The oldest Go that may compile this folder, as (1, 26, 6)."""
    match = re.search(r"^go (\d+(?:\.\d+)+)$", (folder / "go.mod").read_text(), re.MULTILINE)
    if match is None:
        raise Bug(f"{folder / 'go.mod'} has no go line")
    return tuple(int(part) for part in match[1].split("."))


def linker_flags(recipe: Recipe) -> str:
    """The value of `go build -ldflags`: no symbol tables, and the recipe's stamps with versions filled in."""

    def fill(value: str) -> str:
        return re.sub(r"{(.+)}", lambda match: get_version(recipe.folder, match[1]), value)

    return " ".join(["-s", "-w", *(f"-X {variable}={fill(value)}" for variable, value in recipe.stamps.items())])


def _source_files(recipe: Recipe) -> list[Path]:
    files = [recipe.folder / "go.mod", recipe.folder / "go.sum"]
    for source in recipe.sources:
        found = sorted((recipe.folder / source).rglob("*"))
        files += [path for path in found if path.suffix in SOURCE_SUFFIXES and not path.name.endswith("_test.go")]
    return files
