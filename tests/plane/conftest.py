"""What a test of this folder leaves open is its own fault, not that of whichever test the garbage collector happens to meet."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.plane.apiserver import ApiServer
from tests.plane.machine_plane import MachinePlane, running_plane


@pytest.fixture(autouse=True)
def nothing_stays_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """Not where requests are all that there is: to collect takes longer than most of those tests."""
    yield
    if "api" not in request.fixturenames:
        gc.collect()


@pytest.fixture(scope="package")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One API server with our kinds and policies, for all files that ask only what it takes and refuses."""
    server = ApiServer(tmp_path_factory.mktemp("apiserver"))
    try:
        server.start()
        server.install()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MachinePlane]:
    """A plane whose objects are those of one file: its controllers are not the next file's."""
    with running_plane(tmp_path_factory.mktemp("plane")) as server:
        yield server
