"""What a test of this folder leaves open is its own fault, not that of whichever test the garbage collector happens to meet."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    yield
    gc.collect()
