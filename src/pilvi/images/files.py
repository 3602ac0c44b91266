"""Finds single files of an image, whatever layers and links they lie behind, without unpacking anything else.

Links are followed inside the image, as if it were the root of a file system: no path and no link leads out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from pilvi.errors import UserError
from pilvi.images.layers import Hidden, copy_file, is_whiteout, name_of, note_removal, open_layer

__all__ = ["Place", "find_files", "take_files"]

# Both bound what a made-up image costs: a kernel is found through a handful of links, and no image has more names.
_MOST_LINKS = 40
_MOST_NAMES = 1_000_000


class Place(NamedTuple):
    """Where a regular file is: the number of the layer, counted from the lowest, and the member's name there."""

    layer: int
    name: str


class _Entry(NamedTuple):
    kind: Literal["file", "link", "other"]
    place: Place | None = None
    target: str = ""


def find_files(layers: Iterable[Path], paths: Iterable[str], what: str) -> dict[str, Place]:
    """Where each of these files of an image is. `layers` are its archives, the lowest first. Blocks.

    Raises UserError for a path that is not there or that is no regular file, and for a layer that is damaged.
    """
    entries: dict[str, _Entry] = {}
    hidden = Hidden()
    numbered = list(enumerate(layers))
    for number, layer in reversed(numbered):
        found = _read(layer, number, hidden, what)
        for name, entry in found.items():
            entries.setdefault(name, entry)
        if len(entries) > _MOST_NAMES:
            raise UserError(f"{what} has more than {_MOST_NAMES} files", hint="build an image of the kernel alone")
    return {path: _resolve(entries, path, what) for path in paths}


def take_files(layer: Path, wanted: Mapping[str, Path], largest: Callable[[], int], what: str) -> dict[str, str]:
    """Copy members of this layer to new files: from names to paths. The sha256 of each, by name. Blocks. Raises UserError, OSError."""
    taken: dict[str, str] = {}
    with open_layer(layer, what) as archive:
        for member in archive:
            name = name_of(member)
            if name not in wanted or not member.isreg() or (content := archive.extractfile(member)) is None:
                continue
            with wanted[name].open("wb") as target:  # of two members of one name the later one is meant
                taken[name] = copy_file(content, member.size, target, largest, f"/{name} of {what}")
    return taken


def _read(layer: Path, number: int, hidden: Hidden, what: str) -> dict[str, _Entry]:
    """What this layer shows where those above it hide nothing; what it hides itself is added to `hidden`."""
    shown: dict[str, _Entry] = {}
    files: set[str] = set()
    removed = Hidden()
    with open_layer(layer, what) as archive:
        for member in archive:
            name = name_of(member)
            note_removal(name, removed)
            if is_whiteout(name):
                continue
            if member.isreg():
                files.add(name)
            if not member.isdir():
                removed.files.add(name)  # whatever lies below that name in lower layers was a folder once
            if hidden.hides(name):
                continue
            if member.isreg():
                shown[name] = _Entry("file", Place(number, name))
            elif member.issym():
                shown[name] = _Entry("link", target=member.linkname)
            elif member.islnk():
                target = str(PurePosixPath("/", member.linkname)).lstrip("/")
                shown[name] = _Entry("file", Place(number, target) if target in files else None, target)
            else:
                shown[name] = _Entry("other")
            if len(shown) > _MOST_NAMES:
                raise UserError(f"{what} has more than {_MOST_NAMES} files", hint="build an image of the kernel alone")
    hidden.files |= removed.files
    hidden.folders |= removed.folders
    return shown


def _resolve(entries: Mapping[str, _Entry], path: str, what: str) -> Place:
    at: list[str] = []
    ahead = list(reversed(PurePosixPath(path).parts))
    links = 0
    while ahead:
        part = ahead.pop()
        if part in ("/", ".."):
            at = at[:-1] if part == ".." else []
            continue
        entry = entries.get("/".join((*at, part)))
        if entry is None or entry.kind != "link":
            at.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise UserError(f"{path} of {what} is a link that leads in circles", hint="name the file itself")
        ahead.extend(reversed(PurePosixPath(entry.target).parts))
    name = "/".join(at)
    found = entries.get(name)
    led = f", to which {path} leads," if name != path.strip("/") else ""
    if found is None:
        raise UserError(f"{what} has no file /{name}{led}".rstrip(","), hint="look at the image for the path of its kernel and initrd")
    if found.place is None:
        raise UserError(f"/{name}{led} of {what} is no regular file of its layer", hint="name the file itself")
    return found.place
