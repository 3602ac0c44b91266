from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.unit.providers.kubevirt.subresources.served import ReviewingApi, Served, serving


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    api = ReviewingApi()
    await api.start()
    try:
        async with serving(api, tmp_path) as found:
            yield found
    finally:
        await api.stop()
