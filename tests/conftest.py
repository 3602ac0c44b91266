"""Fixtures for all tests. Those of one package live beside its tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import hypothesis
import pytest
import pytest_asyncio

from tests.fake_api import FakeApi
from tests.guests import Guest, guest_image

# How long an example takes says more about what else this machine does than about the code.
hypothesis.settings.register_profile("pilvi", deadline=None)
hypothesis.settings.load_profile("pilvi")


@pytest_asyncio.fixture
async def fake_api() -> AsyncIterator[FakeApi]:
    api = FakeApi()
    await api.start()
    yield api
    await api.stop()


@pytest.fixture(scope="session")
def guest() -> Guest:
    """The small virtual machine of the tests; building it takes fifteen seconds, once for each machine, and root."""
    return guest_image()
