"""Tokens for uploads. In memory only: one that an engine gave dies with it, and the client asks for another."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from pilvi.api import Key

__all__ = ["Grant", "Tokens"]

LIFE_S = 300.0


@dataclass(frozen=True)
class Grant:
    """What a token allows: to fill this one claim, of exactly this UID."""

    key: Key
    uid: str


class Tokens:
    """Gives tokens and knows them again for five minutes, as upstream's are valid."""

    def __init__(self) -> None:
        self._grants: dict[str, tuple[Grant, float]] = {}

    def issue(self, grant: Grant) -> str:
        """A new token."""
        now = time.monotonic()
        self._grants = {token: entry for token, entry in self._grants.items() if entry[1] > now}
        token = secrets.token_urlsafe(32)
        self._grants[token] = (grant, now + LIFE_S)
        return token

    def find(self, token: str) -> Grant | None:
        """What the token allows; None for one that is unknown or too old."""
        grant, until = self._grants.get(token, (None, 0.0))
        return grant if until > time.monotonic() else None
