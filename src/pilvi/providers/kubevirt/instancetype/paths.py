"""Values at dotted paths of a JSON object, since tables say here what goes where."""

from __future__ import annotations

from pilvi.api import JsonObject

__all__ = ["get_path", "put_path"]


def get_path(obj: JsonObject, path: str) -> object:
    """The value at a path such as `domain.cpu.model`; None where there is none."""
    found: object = obj
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def put_path(obj: JsonObject, path: str, value: object) -> None:
    """Set the value, and make the objects on the way to it that are absent or null."""
    *parents, last = path.split(".")
    for name in parents:
        if obj.get(name) is None:
            obj[name] = {}
        obj = obj[name]
    obj[last] = value
