"""The bodies of requests: KubeVirt's options. What they do not know is refused, since it would be ignored."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from aiohttp import web

from pilvi.errors import BadRequest
from pilvi.lib.clock import parse_duration
from pilvi.providers.aggregation import refusal

__all__ = [
    "Body",
    "EvacuateCancelOptions",
    "FreezeOptions",
    "MigrateOptions",
    "Options",
    "PauseOptions",
    "RestartOptions",
    "StartOptions",
    "StopOptions",
    "read_object",
    "read_options",
]

Known = TypeVar("Known", bound="Body")


class Body(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What every body may say of itself."""

    api_version: str | None = None
    kind: str | None = None


class Options(Body, frozen=True, kw_only=True):
    """What most have. `dry_run` may hold `All`: then everything is checked and nothing is done."""

    dry_run: list[str] | None = None

    @property
    def is_dry(self) -> bool:
        """Whether nothing is to be done."""
        return bool(self.dry_run)


class StartOptions(Options, frozen=True, kw_only=True):
    """`paused`: the machine is to stand still before its first instruction."""

    paused: bool = False


class StopOptions(Options, frozen=True, kw_only=True):
    """`grace_period`: seconds that the guest gets to power off, instead of the machine's own."""

    grace_period: int | None = None


class RestartOptions(Options, frozen=True, kw_only=True):
    """`grace_period_seconds`: only 0, which does not wait for the guest."""

    grace_period_seconds: int | None = None


class PauseOptions(Options, frozen=True, kw_only=True):
    """Of pause and unpause."""


class MigrateOptions(Options, frozen=True, kw_only=True):
    """`added_node_selector` narrows where the machine may go."""

    added_node_selector: dict[str, str] = {}


class EvacuateCancelOptions(Options, frozen=True, kw_only=True):
    """`evacuation_node_name`: the host that the machine was to leave; another one means that there is nothing to take back."""

    evacuation_node_name: str | None = None


class FreezeOptions(Body, frozen=True, kw_only=True):
    """`unfreeze_timeout`: how long the guest stays frozen at most, as Go writes a duration (`5m0s`)."""

    unfreeze_timeout: str | None = None

    @property
    def thaw_after_s(self) -> float | None:
        """The time in seconds; None without one. Raises BadRequest."""
        if self.unfreeze_timeout is None:
            return None
        try:
            return parse_duration(self.unfreeze_timeout)
        except ValueError as e:
            raise refusal(BadRequest, f"unfreezeTimeout {self.unfreeze_timeout!r} is no duration; write it as 5m or 90s") from e


async def read_options(request: web.Request, kind: type[Known]) -> Known:
    """The body as options of that kind; no body means none. Raises BadRequest for what is none, or asks for what nobody knows."""
    body = await request.read()
    if not body.strip() or body.strip() == b"null":
        return kind()
    try:
        options = msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as e:
        raise refusal(BadRequest, f"the body of the request is not understood: {e}") from e
    if isinstance(options, Options) and (unknown := [word for word in options.dry_run or () if word != "All"]):
        raise refusal(BadRequest, f"dryRun has {unknown[0]!r}; the only value is All")
    return options


def read_object(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises BadRequest."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as e:
        raise refusal(BadRequest, f"the body of the request is not understood: {e}") from e
