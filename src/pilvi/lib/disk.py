"""Work that takes as long as the disk does, in threads of its own.

Copying or removing a tree takes seconds on a busy disk. The event loop's own threads (`asyncio.to_thread`) are few and do what
takes milliseconds, for everybody; none of that must wait behind a tree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

__all__ = ["finish_on_disk", "on_disk"]

P = ParamSpec("P")
R = TypeVar("R")

_threads = ThreadPoolExecutor(4, thread_name_prefix="disk")


async def on_disk(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `function` in such a thread and return its result, or raise what it raises. When cancelled it goes on by itself."""
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(function, *args, **kwargs))


async def finish_on_disk(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Like `on_disk`, but when cancelled it waits until `function` is through: for a short step on a file that is closed afterwards."""
    step = asyncio.ensure_future(on_disk(function, *args, **kwargs))
    try:
        return await asyncio.shield(step)
    except asyncio.CancelledError:
        await asyncio.wait([step])
        raise
