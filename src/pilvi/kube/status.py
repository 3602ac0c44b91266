"""Turns the answers of an API server that are not a success into errors of the tree in `pilvi.errors`.

Called by the client for HTTP answers and by the watch for ERROR events; both carry a `Status` object.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from pilvi import errors
from pilvi.api import JsonObject

__all__ = ["error_from_body", "error_from_status"]

# Status.reason decides; the HTTP code is the fallback for bodies that are no Status (proxies, /readyz, aggregated APIs).
_BY_REASON: dict[str, type[errors.ApiError]] = {
    "BadRequest": errors.BadRequest,
    "Unauthorized": errors.Unauthorized,
    "Forbidden": errors.Forbidden,
    "NotFound": errors.NotFound,
    "MethodNotAllowed": errors.MethodNotAllowed,
    "AlreadyExists": errors.AlreadyExists,
    "Conflict": errors.Conflict,
    "Gone": errors.Expired,
    "Expired": errors.Expired,
    "Invalid": errors.Invalid,
    "RequestEntityTooLarge": errors.RequestEntityTooLarge,
    "TooManyRequests": errors.TooManyRequests,
    "ServerTimeout": errors.ServerBusy,
    "Timeout": errors.ServerBusy,
    "ServiceUnavailable": errors.ServerBusy,
    "InternalError": errors.ServerError,
}
_BY_CODE: dict[int, type[errors.ApiError]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    409: errors.Conflict,
    410: errors.Expired,
    413: errors.RequestEntityTooLarge,
    422: errors.Invalid,
    429: errors.TooManyRequests,
    503: errors.ServerBusy,
    504: errors.ServerBusy,
}


def error_from_status(status: JsonObject, what: str, *, retry_after_s: float | None = None) -> errors.ApiError:
    """The error that `status` (a `Status` object) stands for. `what` says what was asked, for example `get pods default/a`.

    The time to wait is `retry_after_s` (from the header) if given, else `details.retryAfterSeconds`, else 1 s. A 5xx waits no
    longer than 1 s: a starting API server asks for 5 s and is ready long before.
    """
    code = int(status.get("code") or 0)
    kind = _BY_REASON.get(status.get("reason") or "") or _BY_CODE.get(code)
    if kind is None:
        kind = errors.ServerError if code >= 500 else errors.ApiError
    message = f"{what}: {status.get('message') or status.get('reason') or _phrase(code)}"
    if retry_after_s is None:
        retry_after_s = float((status.get("details") or {}).get("retryAfterSeconds") or 1.0)
    if issubclass(kind, errors.TooManyRequests):
        return kind(message, status, retry_after_s)
    if issubclass(kind, errors.ServerBusy):
        return kind(message, status, min(retry_after_s, 1.0))
    return kind(message, status)


def error_from_body(code: int, body: bytes, what: str, *, retry_after_s: float | None = None) -> errors.ApiError:
    """As `error_from_status`, for an HTTP answer with `code` whose `body` may or may not be a `Status`."""
    status: JsonObject | None = None
    try:
        decoded = msgspec.json.decode(body)
        if isinstance(decoded, dict) and decoded.get("kind") == "Status":
            status = decoded
    except msgspec.DecodeError:
        pass  # plain text, for example of a health endpoint
    if status is None:
        status = {"kind": "Status", "status": "Failure", "message": body[:500].decode("utf-8", "replace").strip() or _phrase(code)}
    status.setdefault("code", code)
    return error_from_status(status, what, retry_after_s=retry_after_s)


def _phrase(code: int) -> str:
    return HTTPStatus(code).phrase if code in HTTPStatus._value2member_map_ else f"HTTP {code}"
