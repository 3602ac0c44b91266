"""The one hash that names things: namespaces, links and objects that belong to an object with a UID."""

from __future__ import annotations

import hashlib

__all__ = ["short_hash"]


def short_hash(text: str) -> str:
    """First 8 hex digits of the SHA-256 of `text`. Short enough for a link name, stable for ever."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
