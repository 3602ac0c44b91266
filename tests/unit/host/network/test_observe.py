"""Lists that change while they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from pilvi.errors import DriverError
from pilvi.host.network.observe import dump

INTERRUPTED = 0x10


class Kernel:
    """Answers each request with the next list, each a flag for every message."""

    def __init__(self, *answers: list[int]) -> None:
        self.answers = list(answers)

    async def request(self, command: str, **filters: Any) -> AsyncIterator[Any]:
        assert (command, filters) == ("dump", {"family": 2})
        return self._messages(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])

    async def _messages(self, flags: list[int]) -> AsyncIterator[Any]:
        for flag in flags:
            yield {"header": {"flags": flag | 0x2}}


async def test_an_interrupted_list_is_read_again() -> None:
    kernel = Kernel([0, INTERRUPTED], [INTERRUPTED], [0, 0, 0])
    assert len(await dump(kernel.request, family=2)) == 3


async def test_a_list_that_never_stays_the_same_is_an_error() -> None:
    with pytest.raises(DriverError, match="changes faster"):
        await dump(Kernel([INTERRUPTED]).request, family=2)
