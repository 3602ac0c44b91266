"""JSON patches (RFC 6902) on a document in memory."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from pilvi.errors import UserError

__all__ = ["apply_json_patch"]


def apply_json_patch(document: Any, operations: Iterable[Mapping[str, Any]], *, field: str, hint: str) -> Any:
    """`document` with all operations done, the original unchanged. `field` is what errors call the list, `hint` says where to look.

    Raises UserError naming the operation that does not fit; nothing is changed then.
    """
    result = copy.deepcopy(document)
    for index, operation in enumerate(operations):
        try:
            result = _apply(result, operation)
        except (LookupError, ValueError, TypeError, AttributeError) as e:
            op, path = (operation.get(name) if isinstance(operation, Mapping) else None for name in ("op", "path"))
            raise UserError(
                f"{field}[{index}]: cannot {op} {path or ''!r}: {e.args[0] if e.args else e}",
                hint=hint,
            ) from e
    return result


def _apply(document: Any, operation: Mapping[str, Any]) -> Any:
    op, path = operation["op"], _pointer(operation["path"])
    if op in ("add", "replace", "test") and "value" not in operation:
        raise ValueError("the operation has no value")
    if op == "add":
        return _add(document, path, copy.deepcopy(operation["value"]))
    if op == "remove":
        return _remove(document, path)
    if op == "replace":
        _get(document, path)
        return operation["value"] if not path else _add(_remove(document, path), path, copy.deepcopy(operation["value"]))
    if op == "test":
        if _get(document, path) != operation["value"]:
            raise ValueError("the value there is another one")
        return document
    if op in ("move", "copy"):
        source = _pointer(operation.get("from") or "")
        value = copy.deepcopy(_get(document, source))
        if op == "move":
            if path[: len(source)] == source and path != source:
                raise ValueError("a value cannot move into itself")
            document = _remove(document, source)
        return _add(document, path, value)
    raise ValueError("the operation is not one of add, remove, replace, move, copy, test")


def _pointer(text: str) -> list[str]:
    """The parts of a JSON pointer (RFC 6901)."""
    if text and not text.startswith("/"):
        raise ValueError("a path begins with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _get(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[_index(part, len(document) - 1)] if isinstance(document, list) else _member(document, part)
    return document


def _member(document: Any, part: str) -> Any:
    if not isinstance(document, dict) or part not in document:
        raise LookupError(f"there is no {part!r}")
    return document[part]


def _index(part: str, last: int) -> int:
    if not part.isdigit() or int(part) > last:
        raise LookupError(f"there is no element {part!r}")
    return int(part)


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _get(document, path[:-1])
    if isinstance(parent, list):
        parent.insert(len(parent) if path[-1] == "-" else _index(path[-1], len(parent)), value)
    elif isinstance(parent, dict):
        parent[path[-1]] = value
    else:
        raise LookupError(f"the parent of {path[-1]!r} is no object and no list")
    return document


def _remove(document: Any, path: list[str]) -> Any:
    if not path:
        raise ValueError("the whole document cannot be removed")
    _get(document, path)
    parent = _get(document, path[:-1])
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]
    return document
