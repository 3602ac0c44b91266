"""Label and field selectors: as people write them (a mapping or a string), as the API wants them, and matched locally."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

__all__ = ["Selector", "render_selector"]

# A mapping means equality on all its entries; a string is passed on as it is (`app in (a,b),!old`).
Selector: TypeAlias = Mapping[str, str] | str | None


def render_selector(selector: Selector) -> str | None:
    """The selector as a query parameter; None when it selects everything."""
    if not selector:
        return None
    if isinstance(selector, str):
        return selector
    return ",".join(f"{name}={value}" for name, value in sorted(selector.items()))
