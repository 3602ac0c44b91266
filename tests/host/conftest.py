"""A cloud of its own for each test that asks for one, taken apart afterwards; nothing of it may be left on the host."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

import pytest
import pytest_asyncio

from pilvi.host import nft
from pilvi.host.cloud import RUN_ROOT, Cloud
from pilvi.host.leftovers import find_leftovers
from pilvi.host.netns import list_netns
from pilvi.host.network import delete_link, delete_netns, list_links
from pilvi.host.units import Units


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root there are no real namespaces, control groups and mounts to test with."""
    if os.geteuid() != 0:
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.skip(reason="needs root: real namespaces, control groups and mounts"))


@pytest.fixture(scope="session", autouse=True)
def _no_run_root() -> Iterator[None]:
    """The clouds here are in no registry, so nobody removes the folder of all clouds after the last of them."""
    yield
    with suppress(OSError):  # real clouds may be in it
        RUN_ROOT.rmdir()


@pytest_asyncio.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    """A cloud that nobody has started: its identity only, not in the host file."""
    id = "t" + secrets.token_hex(2)
    home = tmp_path / "home"
    home.mkdir()
    made = Cloud(
        id=id,
        home=home,
        run=RUN_ROOT / id,
        range=IPv4Network("10.250.255.0/24"),
        transit=IPv4Network("100.127.252.0/22"),
        uid_base=2_147_000_000,
        uid_count=64,
    )
    yield made
    await Units(made).stop_all(0)
    for name in list_netns(made.netns_prefix):
        await delete_netns(name)
    for link in await list_links(None, made.bridge):
        await delete_link(None, link.name)
    await nft.delete(None, made.nft_table)
    shutil.rmtree(made.run, ignore_errors=True)
    assert await find_leftovers(made) == []
