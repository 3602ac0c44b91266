"""What a guest tells of itself through its agent, the same for every backend. None of it is to be trusted, all of it is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["GuestExit", "GuestFacts", "GuestLink"]


@dataclass(frozen=True)
class GuestLink:
    """A network interface as the guest sees it: its name there, MAC in lower case, addresses without the length of their prefix."""

    name: str
    mac: str
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class GuestFacts:
    """All that has been told so far; None for what has not.

    `commands` are those that the agent knows and may run. `os` has the fields of KubeVirt's guestOSInfo. The loopback is no link.
    """

    version: str = ""
    commands: frozenset[str] | None = None
    os: Mapping[str, str] = field(default_factory=dict)
    links: tuple[GuestLink, ...] | None = None
    is_frozen: bool = False


@dataclass(frozen=True)
class GuestExit:
    """How a program in a guest ended: its exit code, None when a signal ended it, and what it wrote to both outputs."""

    code: int | None
    output: str
