"""The fake API server, with one habit of the real one more."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from pilvi.api import JsonObject
from tests.fake_api import FakeApi


class QuietApi(FakeApi):
    """A write that changes nothing makes no new version and wakes no watch, as in a real API server."""

    def _write(self, path: str, old: JsonObject | None, new: JsonObject) -> JsonObject:
        return old if old is not None and _content(old) == _content(new) else super()._write(path, old, new)


def _content(obj: JsonObject) -> JsonObject:
    served = ("uid", "resourceVersion", "generation", "managedFields")
    metadata = {name: value for name, value in obj["metadata"].items() if name not in served}
    return {name: value for name, value in {**obj, "metadata": metadata}.items() if name not in ("apiVersion", "kind")}


@pytest_asyncio.fixture
async def fake_api() -> AsyncIterator[FakeApi]:
    api = QuietApi()
    await api.start()
    yield api
    await api.stop()
