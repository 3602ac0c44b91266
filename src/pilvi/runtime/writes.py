"""Which writes belong to the reconcile that is running, so that its key can wait until the caches have seen them.

A context variable, because the client and the informers below know nothing of controllers; tasks that a reconcile starts inherit
the same list.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilvi.runtime.informer import Informer

__all__ = ["current_writes"]

current_writes: ContextVar[list[tuple[Informer, int]] | None] = ContextVar("current_writes", default=None)
