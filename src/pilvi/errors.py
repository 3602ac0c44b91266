"""Every error that pilvi raises on purpose, in one tree.

    PilviError
    ├── UserError            a person can mend it: message says what is wrong, hint says what to do
    │   ├── WrongUse         what the command was given is wrong; nothing has been changed
    │   ├── Unusable         data that will be the same when they are asked for again: not worth another try
    │   └── NoSpace          a file system is full; the work goes on when there is room
    ├── ApiError             a Kubernetes API answered with a Status; `.status` holds it, one class per Status.reason
    │   ├── BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, Invalid, RequestEntityTooLarge
    │   ├── AlreadyExists    409: the name is taken
    │   ├── Conflict         409: somebody else wrote in between; read again and retry
    │   ├── Expired          410: the resource version or continue token is too old; list again
    │   ├── TooManyRequests  429 (also Transient)
    │   └── ServerError      any 5xx
    │       └── ServerBusy   500/503/504 that asks to come back (also Transient)
    ├── Transient            will pass by itself: try again after `retry_after_s`
    │   ├── ApiUnreachable   the API server gave no answer (dead, starting, cut off); the outcome of a write is unknown
    │   ├── MachineUnreachable  QEMU or the guest's agent gave no answer: not there, not yet, cut off
    │   ├── TooManyRequests
    │   └── ServerBusy
    ├── MachineRefused       a machine's QEMU, or the agent in its guest, refused a command
    ├── DriverError          an external command failed: argv, exit code, last lines of stderr
    ├── UnitFailed           a unit (long-lived process) died or keeps dying; carries its last log lines
    ├── TimedOut             something awaited did not happen within its deadline
    └── Bug                  a state that the code says cannot be

A message never repeats its cause: raise with `from`, and let `format_chain` print the chain once, for CLI, conditions and logs.
Errors of a person (UserError) are printed without a traceback; a traceback is a bug.
"""

# ruff: noqa: N818 (reasons are named as the Kubernetes API names them: NotFound, Conflict)
from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import Any

__all__ = [
    "AlreadyExists",
    "ApiError",
    "ApiUnreachable",
    "BadRequest",
    "Bug",
    "Conflict",
    "DriverError",
    "Expired",
    "Forbidden",
    "Invalid",
    "MachineRefused",
    "MachineUnreachable",
    "MethodNotAllowed",
    "NoSpace",
    "NotFound",
    "PilviError",
    "RequestEntityTooLarge",
    "ServerBusy",
    "ServerError",
    "TimedOut",
    "TooManyRequests",
    "Transient",
    "Unauthorized",
    "UnitFailed",
    "Unusable",
    "UserError",
    "WrongUse",
    "find_hint",
    "format_chain",
]


class PilviError(Exception):
    """Root of the tree. `str()` is one sentence that names the object, the field and the reason."""


class UserError(PilviError):
    """Something that a person can mend. `hint` is the next step, best a command to copy."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class WrongUse(UserError):
    """An option, an argument or a file that a command was given is wrong, which was seen before anything was changed."""


class Unusable(UserError):
    """What was fetched cannot be used, and would be no better the next time: a wrong checksum, no image, one larger than its place."""


class NoSpace(UserError):
    """A file system has no room left. What is there already is kept, and the work goes on once there is room."""


class Transient(PilviError):
    """A failure that passes by itself. `retry_after_s` is when it makes sense to try again, in seconds."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ApiError(PilviError):
    """A Kubernetes API refused a request.

    `status` is the `Status` object of the answer (always a dict, made up from the HTTP status when the body is not one),
    `code` the HTTP status, `reason` `Status.reason`, possibly empty.
    """

    def __init__(self, message: str, status: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status: dict[str, Any] = status or {}

    @property
    def code(self) -> int:
        """HTTP status code, 0 when unknown."""
        return int(self.status.get("code") or 0)

    @property
    def reason(self) -> str:
        """`Status.reason`, for example `NotFound`; empty when the server gave none."""
        return str(self.status.get("reason") or "")

    @property
    def causes(self) -> list[dict[str, Any]]:
        """`Status.details.causes`: for Invalid one entry per field with `field` and `message`."""
        return list((self.status.get("details") or {}).get("causes") or [])


class BadRequest(ApiError):
    """400: the request itself is malformed."""


class Unauthorized(ApiError):
    """401: the credentials are not known to this API server, or have expired."""


class Forbidden(ApiError):
    """403: the credentials are known but may not do this, or an admission policy denied it."""


class NotFound(ApiError):
    """404: no such object, or no such kind."""


class MethodNotAllowed(ApiError):
    """405: the kind does not support this verb."""


class AlreadyExists(ApiError):
    """409 on create: the name is taken."""


class Conflict(ApiError):
    """409 on write: the object changed since it was read, or another field manager owns a field."""


class Expired(ApiError):
    """410: the resource version or continue token is gone from the server's memory. List again."""


class RequestEntityTooLarge(ApiError):
    """413: the object is larger than the API server takes."""


class Invalid(ApiError):
    """422: a field is wrong; `causes` names each."""


class TooManyRequests(ApiError, Transient):
    """429: the server asks to slow down, or a PodDisruptionBudget forbids an eviction now."""

    def __init__(self, message: str, status: dict[str, Any] | None = None, retry_after_s: float = 1.0) -> None:
        ApiError.__init__(self, message, status)
        self.retry_after_s = retry_after_s


class ServerError(ApiError):
    """5xx: the API server failed."""


class ServerBusy(ServerError, Transient):
    """5xx that asks to come back: ServerTimeout, ServiceUnavailable, Timeout."""

    def __init__(self, message: str, status: dict[str, Any] | None = None, retry_after_s: float = 1.0) -> None:
        ServerError.__init__(self, message, status)
        self.retry_after_s = retry_after_s


class ApiUnreachable(Transient):
    """The API server gave no answer: refused, reset, silent, or its TLS handshake failed. The outcome of a write is unknown."""


class MachineUnreachable(Transient):
    """Nobody answers at a machine's socket, or the connection broke: the outcome of a command that was on its way is unknown."""


class MachineRefused(PilviError):
    """A machine's QEMU, or the agent in its guest, refused `command`, or answered something that cannot be understood."""

    def __init__(self, machine: str, command: str, reason: str) -> None:
        self.command = command
        self.reason = reason
        super().__init__(f"machine {machine} refused {command}: {reason}")


class DriverError(PilviError):
    """An external command failed. `argv`, `code` (negative: killed by that signal) and `stderr` (its tail) are kept."""

    def __init__(self, argv: Sequence[str], code: int, stderr: str, message: str | None = None) -> None:
        self.argv = list(argv)
        self.code = code
        self.stderr = stderr
        text = message or f"command failed with exit code {code}: {shlex.join(self.argv)}"
        last = stderr.strip()
        super().__init__(f"{text}: {last}" if last else text)


class UnitFailed(PilviError):
    """A unit died or never became ready. `log_tail` holds its last log lines."""

    def __init__(self, unit: str, message: str, log_tail: str = "") -> None:
        self.unit = unit
        self.log_tail = log_tail
        last = log_tail.strip()
        super().__init__(f"unit {unit} {message}; its last log lines:\n{last}" if last else f"unit {unit} {message}")


class TimedOut(PilviError):
    """`what` did not happen within `timeout_s` seconds. `hint` is the next step, where there is one."""

    def __init__(self, what: str, timeout_s: float, hint: str | None = None) -> None:
        super().__init__(f"timed out after {timeout_s:.4g} s waiting for {what}")
        self.hint = hint
        self.what = what
        self.timeout_s = timeout_s


class Bug(PilviError):
    """A state that the code says cannot be. Never raised for input."""


def format_chain(exc: BaseException) -> str:
    """The whole chain of causes as one text: `message: cause: cause; hint`.

    Each exception contributes its own text once. Exceptions that are not ours are prefixed with their class, because their
    texts (`'spec'` of a KeyError) often say nothing alone; those of the system and of YAML's parser become words for people.
    The members of an exception group are joined with ` | `.
    """
    text = ": ".join(_texts(exc))
    hint = find_hint(exc)
    return f"{text}; {hint}" if hint else text


def find_hint(exc: BaseException) -> str | None:
    """The outermost hint in the chain, or None."""
    current: BaseException | None = exc
    while current is not None:
        hint = getattr(current, "hint", None)
        if isinstance(hint, str):
            return hint
        current = _cause(current)
    return None


def _texts(exc: BaseException) -> list[str]:
    texts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        text = _own_text(current)
        if not texts or texts[-1] != text:
            texts.append(text)
        current = _cause(current)
    return texts


def _own_text(exc: BaseException) -> str:
    if isinstance(exc, BaseExceptionGroup):
        return " | ".join(format_chain(member) for member in exc.exceptions)
    if isinstance(exc, OSError) and exc.errno and type(exc).__module__ == "builtins":  # others have numbers of their own
        text = os.strerror(exc.errno)
        return f"{os.fsdecode(exc.filename)}: {text}" if isinstance(exc.filename, str | bytes) else text
    if (mark := getattr(exc, "problem_mark", None)) is not None:  # yaml.MarkedYAMLError, whose own text quotes the parser's buffer
        return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(exc, 'problem', None) or 'not understood'}"
    if type(exc).__module__ == "yaml.reader":
        return f"position {getattr(exc, 'position', 0)}: {getattr(exc, 'reason', '')}"
    text = str(exc)
    if isinstance(exc, PilviError):
        return text or type(exc).__name__
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def _cause(exc: BaseException) -> BaseException | None:
    return exc.__cause__ if exc.__cause__ is not None or exc.__suppress_context__ else exc.__context__
