"""Independent steps, side by side."""

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["together"]


async def together(*steps: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run all steps at once; returns their results in order.

    The first error is raised as itself, not in a group, since its class decides about the retry; the other steps are cancelled.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
    except ExceptionGroup as e:
        raise e.exceptions[0] from None
    return [task.result() for task in tasks]
