"""Custom resource definitions from the structs of the kinds. Pure.

The schema of every struct is written inline, because the API server knows no references.
"""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from pilvi.api.contract import labels_of
from pilvi.api.field import NOT_YET, Field, Part
from pilvi.api.object import Column, Object

__all__ = ["Member", "crd_of", "defaulted", "members", "part_of", "schema_of"]

Schema = dict[str, Any]

NO_NOTE = Field()
_SCALARS: dict[Any, str] = {str: "string", int: "integer", bool: "boolean", float: "number"}


class Member(msgspec.Struct, frozen=True):
    """One field of a struct. `note` is what holds for it, `own` whether it says so itself and not the field that holds the struct."""

    name: str
    type: Any
    note: Field
    own: bool
    required: bool
    default: Any


def members(part: type[Part], inherited: Field) -> Iterator[Member]:
    """The fields of a struct, sorted by JSON name, each with the note that holds for it.

    A struct none of whose fields names a level takes the level of the field that holds it (`inherited`). In any other struct a field
    without a note is "not implemented yet".
    """
    infos = sorted(msgspec.structs.fields(part), key=lambda info: info.encode_name)
    considered = any(_note(info.type).level for info in infos)
    for info in infos:
        note = _note(info.type)
        own = considered or note.level is not None
        default = note.schema.get("default", None if info.default in (msgspec.NODEFAULT, "") else info.default)
        if note.level is None and own:
            held = msgspec.structs.replace(note, level=NOT_YET.level, reason=NOT_YET.reason)
        elif note.level is None:
            held = msgspec.structs.replace(note, level=inherited.level, reason=inherited.reason, instead=inherited.instead)
        else:
            held = note
        yield Member(info.encode_name, info.type, held, own, info.required or note.required, default)


def part_of(tp: Any) -> tuple[type[Part] | None, str]:
    """The struct inside a type and the way to it: "" directly, "[]" as list items, "{}" as map values; (None, "") when there is none."""
    way = ""
    while True:
        origin = get_origin(tp)
        if origin is Annotated or origin in (Union, types.UnionType):
            tp = next(arg for arg in get_args(tp) if arg is not type(None))
        elif origin is list and not way:
            tp, way = get_args(tp)[0], "[]"
        elif origin is dict and not way:
            tp, way = get_args(tp)[1], "{}"
        elif isinstance(tp, type) and issubclass(tp, Part):
            return tp, way
        else:
            return None, ""


def defaulted(member: Member) -> Any:
    """The value that the API server gives a field that nobody sets, defaults of its parts included; None when it stays unset."""
    part, way = part_of(member.type)
    if part is None or way or not isinstance(member.default, dict):
        return member.default
    inner = {below.name: defaulted(below) for below in members(part, NO_NOTE)}
    return {name: value for name, value in inner.items() if value is not None} | member.default


def crd_of(kind: type[Object]) -> Schema:
    """The CustomResourceDefinition of a kind: every version with the same schema, the struct's own version stored."""
    resource, definition = kind.RESOURCE, kind.DEFINITION
    names: Schema = {
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
        "plural": resource.plural,
        "singular": definition.singular or resource.kind.lower(),
    }
    if definition.short_names:
        names["shortNames"] = list(definition.short_names)
    if definition.categories:
        names["categories"] = list(definition.categories)
    metadata: Schema = {"name": f"{resource.plural}.{resource.group}"}
    if labels := labels_of(resource):
        metadata["labels"] = labels
    if definition.approved:
        metadata["annotations"] = {"api-approved.kubernetes.io": definition.approved}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": resource.group,
            "names": names,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [_version(kind, version) for version in (resource.version, *definition.also_served)],
        },
    }


def _version(kind: type[Object], version: str) -> Schema:
    definition = kind.DEFINITION
    out: Schema = {
        "name": version,
        "served": True,
        "storage": version == kind.RESOURCE.version,
        "schema": {"openAPIV3Schema": _root(kind)},
    }
    subresources: Schema = {}
    if definition.status:
        subresources["status"] = {}
    if definition.scale:
        subresources["scale"] = {
            "specReplicasPath": definition.scale.spec,
            "statusReplicasPath": definition.scale.status,
            "labelSelectorPath": definition.scale.selector,
        }
    if subresources:
        out["subresources"] = subresources
    if definition.columns:
        out["additionalPrinterColumns"] = [_column(column) for column in definition.columns]
    return out


def _column(column: Column) -> Schema:
    out: Schema = {"name": column.name, "jsonPath": column.path, "type": column.type}
    if column.wide:
        out["priority"] = 1
    return out


def _root(kind: type[Object]) -> Schema:
    schema = schema_of(kind)
    doc = (kind.__doc__ or "").strip().split("\n")[0]
    own = {name: sub for name, sub in schema["properties"].items() if name != "metadata"}
    head = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    return schema | {"description": doc, "properties": head | own}


def schema_of(part: type[Part], inherited: Field = NO_NOTE) -> Schema:
    """The OpenAPI schema of a struct; `inherited` is the note of the field that holds it."""
    properties: Schema = {}
    required: list[str] = []
    for member in members(part, inherited):
        schema = _schema_of_type(member.type, member.note)
        if (member.own or member.note.doc) and (text := member.note.description):
            schema = {"description": text} | schema
        if member.default is not None:
            schema["default"] = member.default
        properties[member.name] = schema
        if member.required:
            required.append(member.name)
    schema = {"type": "object"}
    if properties:
        schema["properties"] = properties
    if required:
        schema["required"] = required
    return schema | part.SCHEMA


def _schema_of_type(tp: Any, note: Field) -> Schema:
    origin, args = get_origin(tp), get_args(tp)
    if origin is Annotated:
        schema = _schema_of_type(args[0], note)
        for extra in args[1:]:
            if isinstance(extra, Field):
                schema = schema | extra.schema
        return schema
    if origin in (Union, types.UnionType):
        return _schema_of_union([arg for arg in args if arg is not type(None)], note)
    if origin is list:
        return {"type": "array", "items": _schema_of_type(args[0], note)}
    if origin is dict:
        value = _schema_of_type(args[1], note)
        if args[1] is Any:
            return {"type": "object"} | value
        return {"type": "object", "additionalProperties": value}
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    if tp is Any:
        return {"x-kubernetes-preserve-unknown-fields": True}
    if isinstance(tp, type) and issubclass(tp, Part):
        return schema_of(tp, note)
    return {"type": _SCALARS[tp]}


def _schema_of_union(args: list[Any], note: Field) -> Schema:
    if len(args) == 1:
        return _schema_of_type(args[0], note)
    if set(args) == {int, str}:
        return {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    raise TypeError(f"a schema cannot say the union of {args}; write int | str, or one type and None")


def _note(tp: Any) -> Field:
    if get_origin(tp) is Annotated:
        # Python flattens an annotated type that is annotated again (a Quantity with a note); the field's own note is the last then.
        for extra in reversed(get_args(tp)[1:]):
            if isinstance(extra, Field):
                return extra
    return NO_NOTE
