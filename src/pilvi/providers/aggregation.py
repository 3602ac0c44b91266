"""What providers serve under the platform's API beside its objects: subresources that are actions and streams, not documents.

The engine's aggregated API server (`engine/serve/aggregation.py`) knows who calls, asks the platform's RBAC whether they may, and hands
the request to the endpoint. A handler answers with a response, or raises: an ApiError is told to the caller as it is, other errors of
the tree become the Status that fits them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, TypeAlias, TypeVar

from aiohttp import web

from pilvi.api import JsonObject
from pilvi.errors import ApiError, BadRequest, Conflict, Forbidden, MethodNotAllowed, NotFound

__all__ = ["OPEN_STREAMS", "ApiGroup", "Endpoint", "Handler", "refusal"]

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Refusal = TypeVar("Refusal", bound=ApiError)

OPEN_STREAMS: web.AppKey[set[web.WebSocketResponse]] = web.AppKey("open streams", set)
"""The web sockets that are open now: an engine that ends says goodbye to each."""


@dataclass(frozen=True)
class Endpoint:
    """One path below /apis/GROUP/VERSION and what answers there.

    `of` says what the path names: one `object` of a namespace (then `resource` is its plural and `subresource` what is done to it), a
    `namespace` alone, or nothing (`group`). `tail` are more segments, as patterns of aiohttp; RBAC does not see them. `kind` is that of the
    objects that are created there.
    """

    method: Literal["GET", "PUT", "POST"]
    resource: str
    handle: Handler
    subresource: str = ""
    of: Literal["object", "namespace", "group"] = "object"
    tail: str = ""
    kind: str = ""

    @property
    def path(self) -> str:
        """The pattern of the path, with `namespace` and `name` as its parts."""
        if self.of == "group":
            return f"/{self.resource}"
        if self.of == "namespace":
            return f"/namespaces/{{namespace}}/{self.resource}"
        return f"/namespaces/{{namespace}}/{self.resource}/{{name}}/{self.subresource}{self.tail}"

    @property
    def name(self) -> str:
        """What discovery and RBAC call it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


@dataclass(frozen=True)
class ApiGroup:
    """An API group of a provider, the same in all its versions; the first is the preferred one."""

    name: str
    versions: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]


_CODES: dict[type[ApiError], HTTPStatus] = {
    BadRequest: HTTPStatus.BAD_REQUEST,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    MethodNotAllowed: HTTPStatus.METHOD_NOT_ALLOWED,
    Conflict: HTTPStatus.CONFLICT,
}


def refusal(kind: type[Refusal], message: str, *, resource: str = "", name: str = "") -> Refusal:
    """An error for a handler to raise, one of those that a caller is to blame for. `resource` and `name` say which object it is about."""
    status: JsonObject = {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": kind.__name__,
        "code": int(_CODES[kind]),
    }
    if name:
        status["details"] = {"name": name, "group": "kubevirt.io", "kind": resource}
    return kind(message, status)
