"""What a person probably meant by a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["find_similar"]


def find_similar(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like this one, or None when none is alike."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)
