#!/usr/bin/env python3
"""Write struct code for the fields of a custom resource definition that nobody has considered yet: names and types, nothing else.

Usage: python tools/generate_accepted.py CRD.yaml [--version V] [--path spec.template]

Prints one `Part` struct for each object in the schema below the path; on stderr the names that `field.SPELLING` lacks.
Objects of the same shape become one struct; those that `pilvi.api.core` already has are referred to by that name. A person moves the
output to the module of its API group and considers each field; a spec field left without a note is accepted and "not implemented yet".
"""

import argparse
import keyword
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from pilvi.api import core
from pilvi.api.crd import schema_of
from pilvi.api.field import SPELLING, Part, camel

Schema = dict[str, Any]
KEPT = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "format", "nullable", "default")


def shape_key(schema: Schema) -> str:
    """Equal for two schemas that differ in descriptions and bounds only."""
    parts = []
    if schema.get("x-kubernetes-int-or-string"):
        parts.append("int-or-string")
    else:
        parts.append(str(schema.get("type", "any")))
    required = schema.get("required", [])
    for name, sub in sorted(schema.get("properties", {}).items()):
        parts.append(f"{name}{'!' if name in required else ''}({shape_key(sub)})")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            parts.append(f"[{shape_key(schema[word])}]")
    return " ".join(parts)


KNOWN = {
    shape_key(schema_of(part)): part.__name__
    for part in vars(core).values()
    if isinstance(part, type) and issubclass(part, Part) and part.__struct_fields__
}


def snake(name: str) -> str:
    """The Python name of a JSON field."""
    for python, json in SPELLING.items():
        if json == name:
            return python
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)).lower()
    return f"{words}_" if keyword.iskeyword(words) else words


class Writer:
    """Collects structs, innermost first."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}  # shape -> struct name
        self.code: list[str] = []
        self.spelling: dict[str, str] = {}

    def type_of(self, schema: Schema, name: str, parent: str) -> str:
        """The annotation of a value; writes the structs that it needs."""
        if schema.get("x-kubernetes-int-or-string"):
            return "Quantity" if "pattern" in schema else "IntOrString"
        kind = schema.get("type")
        if kind == "array":
            item = name[:-3] + "y" if name.endswith("ies") else name.removesuffix("s")
            return f"list[{self.type_of(schema['items'], item, parent)}]"
        if kind == "object":
            if "properties" in schema:
                return self.struct(schema, name, parent)
            if isinstance(schema.get("additionalProperties"), dict):
                return f"dict[str, {self.type_of(schema['additionalProperties'], name, parent)}]"
            return "dict[str, Any]" if schema.get("x-kubernetes-preserve-unknown-fields") else "Empty"
        if kind == "string" and "enum" in schema:
            return f"Literal[{', '.join(repr(value) for value in schema['enum'])}]"
        if kind == "string" and schema.get("format") == "date-time":
            return "DateTime"
        return {"string": "str", "integer": "int", "boolean": "bool", "number": "float"}.get(str(kind), "Any")

    def struct(self, schema: Schema, name: str, parent: str) -> str:
        """Write the struct of an object and return its name."""
        key = shape_key(schema)
        if key in KNOWN:
            return KNOWN[key]
        if key in self.names:
            return self.names[key]
        title = name[:1].upper() + name[1:]
        if title in self.names.values():
            title = parent + title
        self.names[key] = title
        lines = self.fields(schema, title)
        self.code.append("\n".join([f"class {title}(Part):", *lines]))
        return title

    def fields(self, schema: Schema, title: str) -> list[str]:
        """The lines of one struct's body, required fields first."""
        required = schema.get("required", [])
        lines = []
        for name in sorted(schema["properties"], key=lambda field: (field not in required, field)):
            sub = schema["properties"][name]
            python = snake(name)
            if camel(python) != name:
                self.spelling[python] = name
            kind = self.type_of(sub, name, title)
            bounds = {word: sub[word] for word in KEPT if word in sub and kind not in ("Quantity", "DateTime")}
            if kind == "DateTime" or bounds.get("format") in ("int32", "int64"):
                bounds.pop("format", None)
            if sub.get("x-kubernetes-list-map-keys"):
                bounds["list_map"] = sub["x-kubernetes-list-map-keys"]
            if sub.get("x-kubernetes-list-type") == "set":
                bounds["list_type"] = "set"
            default = ""
            if name not in required:
                if kind.startswith("list["):
                    default = " = []"
                elif kind.startswith("dict[str, ") and kind != "dict[str, Any]":
                    default = " = {}"
                elif isinstance(sub.get("default"), (str, int, bool)) and sub["default"] != "":
                    default = f" = {bounds.pop('default')!r}"
                else:
                    kind, default = f"{kind} | None", " = None"
            if bounds:
                words = ", ".join(f"{snake(word)}={value!r}" for word, value in bounds.items())
                kind = f"Annotated[{kind}, shape({words})]"
            lines.append(f"    {python}: {kind}{default}")
        return lines


def main() -> int:
    """Print the structs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crd", type=Path)
    parser.add_argument("--version", help="default: the stored one")
    parser.add_argument("--path", default="spec", help="field path below which to write, '[]' for list items; default spec")
    args = parser.parse_args()
    crd = yaml.safe_load(args.crd.read_text())
    version = next(v for v in crd["spec"]["versions"] if (v["name"] == args.version if args.version else v["storage"]))
    schema = version["schema"]["openAPIV3Schema"]
    step = ""
    for step in args.path.split("."):
        schema = schema["properties"][step.removesuffix("[]")]
        if step.endswith("[]"):
            schema = schema["items"]
    writer = Writer()
    writer.struct(schema, step.removesuffix("[]"), "")
    sys.stdout.write("\n\n\n".join(writer.code) + "\n")
    for python, json in sorted(writer.spelling.items()):
        sys.stderr.write(f'    "{python}": "{json}",\n')
    return 0


if __name__ == "__main__":
    sys.exit(main())
