"""The frame of an announcement, and when it is sent."""

import errno
import threading
from ipaddress import IPv4Address

import pytest

from pilvi.providers import announce
from pilvi.providers.announce import arp_announcement


def test_sender_and_target_are_the_same_address() -> None:
    frame = arp_announcement("02:00:00:00:00:07", IPv4Address("10.250.0.9"))
    assert frame.hex() == (
        "ffffffffffff" + "020000000007" + "0806"
        "0001" + "0800" + "06" + "04" + "0001"
        "020000000007" + "0afa0009" + "000000000000" + "0afa0009"
    )  # fmt: skip


async def test_each_address_once_while_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, int]] = []
    monkeypatch.setattr(announce, "_send", lambda netns, link, frames: sent.append((netns, len(frames))))
    one, two = IPv4Address("10.250.0.9"), IPv4Address("10.250.0.10")
    announcer = announce.Announcer()
    for addresses in ([one], [one], [one, two], [two], [one, two]):
        await announcer.announce("a", "eth0", "02:00:00:00:00:07", addresses)
    await announcer.announce("b", "eth0", "02:00:00:00:00:08", [one])
    announcer.forget("b")
    await announcer.announce("b", "eth0", "02:00:00:00:00:08", [one])
    assert sent == [("a", 1), ("a", 1), ("a", 1), ("b", 1), ("b", 1)]


async def test_what_could_not_be_said_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def send(netns: str, link: str, frames: list[bytes]) -> None:
        threads.append(threading.current_thread().name)
        if len(threads) == 1:
            raise OSError(errno.ENETDOWN, "down")

    monkeypatch.setattr(announce, "_send", send)
    announcer = announce.Announcer()
    with pytest.raises(OSError, match="down"):
        await announcer.announce("a", "eth0", "02:00:00:00:00:07", [IPv4Address("10.250.0.9")])
    await announcer.announce("a", "eth0", "02:00:00:00:00:07", [IPv4Address("10.250.0.9")])
    assert len(threads) == 2
    assert threading.current_thread().name not in threads
