import asyncio

import pytest

from pilvi.errors import TimedOut
from pilvi.host.network import netlink


async def lose_an_answer() -> None:
    async with netlink.netlink(None) as ip:
        assert [link async for link in await ip.get_links()]
        await asyncio.get_running_loop().create_future()


async def test_a_lost_answer_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "ANSWER_TIMEOUT_S", 0.05)
    with pytest.raises(TimedOut, match="the kernel to answer in the host's namespace"):
        await lose_an_answer()


async def test_a_deadline_of_the_caller_stays_the_callers() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await lose_an_answer()
