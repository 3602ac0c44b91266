"""How far a field of an instancetype or a preference goes: as far as the field of the machine that it fills."""

import msgspec

from pilvi.api.crd import members
from pilvi.api.field import NOT_YET, Field, Part, camel

__all__ = ["fills"]


def fills(part: type[Part], name: str, doc: str) -> Field:
    """The note of a field that is copied to `name` of `part`: the level, reason and condition of that field, with a text of its own.

    So a field of machines that comes to have an effect has it here too.
    """
    (target,) = (member.note for member in members(part, Field()) if member.name == camel(name))
    known = target if target.level is not None else NOT_YET
    return msgspec.structs.replace(known, doc=doc, required=False, schema={})
