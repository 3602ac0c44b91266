"""The field reference, docs/reference/fields.md, from the structs of the kinds. `python -m pilvi.api.document` prints it."""

import sys
from collections.abc import Iterator

from pilvi.api.contract import ADDITIONS
from pilvi.api.crd import Member, members, part_of
from pilvi.api.crds import KINDS
from pilvi.api.field import NOT_YET, Field, Level, Part
from pilvi.api.object import Object

__all__ = ["document"]

HEAD = """# Fields

Made from the structs in `src/pilvi/api` (`python -m pilvi.api.document > docs/reference/fields.md`); `kubectl explain` says the same.
Every field that upstream has is here with how far it goes:

- **implemented**: does what upstream's documentation says.
- **accepted**: has no effect; whoever sets it gets a warning with the reason.
- **rejected**: ignoring it would change the meaning or the safety; whoever sets it gets an error that says what to write instead.

A condition such as `self == 'NodePort'` (`self` is the field's value) limits a level to some values; for others the field is implemented.
What is below a field that is accepted or rejected is not listed.
"""


def document() -> str:
    """The page, in Markdown."""
    return "\n".join([HEAD, *(line for kind in KINDS for line in _section(kind))])


def _section(kind: type[Object]) -> Iterator[str]:
    resource = kind.RESOURCE
    versions = ", ".join((resource.version, *kind.DEFINITION.also_served))
    yield f"## {resource.kind}"
    yield ""
    yield (kind.__doc__ or "").strip()
    yield f"Group `{resource.group}`, {versions}."
    yield ""
    yield "| field | level | |"
    yield "|---|---|---|"
    for member in members(kind, NOT_YET):
        spec, _ = part_of(member.type)
        if member.name == "spec" and spec is not None:
            yield from _rows(spec, "spec")
    for path, reason in ADDITIONS.get(str(resource), {}).items():
        yield f"| `{path}` | implemented | Addition: {reason}. |"
    yield ""


def _rows(part: type[Part], path: str) -> Iterator[str]:
    for member in members(part, NOT_YET):
        inner, way = part_of(member.type)
        field_path = f"{path}.{member.name}"
        yield f"| `{field_path}` | {_level(member.note)} | {_text(member)} |"
        below = member.note.level is Level.IMPLEMENTED or member.note.when
        if inner is not None and below and inner not in _SPECS and any(item.note.level for item in members(inner, Field())):
            yield from _rows(inner, field_path + way)


def _level(note: Field) -> str:
    level = (note.level or Level.IMPLEMENTED).value
    return f"{level} when `{note.when.replace('|', chr(92) + '|')}`" if note.when else level


def _text(member: Member) -> str:
    note = member.note
    parts = [note.doc]
    if note.level is not Level.IMPLEMENTED:
        parts.append(f"{note.reason[:1].upper()}{note.reason[1:]}.")
    if note.instead:
        parts.append(f"Instead: {note.instead}.")
    inner, _ = part_of(member.type)
    if inner in _SPECS:
        parts.append(f"See [{_SPECS[inner]}](#{_SPECS[inner].lower()}).")
    return " ".join(part for part in parts if part)


def _specs() -> dict[type[Part] | None, str]:
    found: dict[type[Part] | None, str] = {}
    for kind in KINDS:
        for member in members(kind, NOT_YET):
            if member.name == "spec":
                found[part_of(member.type)[0]] = kind.RESOURCE.kind
    return found


_SPECS = _specs()
"""Specs that a kind has for itself: other kinds refer to it instead of repeating it."""


if __name__ == "__main__":
    sys.stdout.write(document())
