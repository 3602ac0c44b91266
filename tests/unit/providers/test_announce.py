"""The frame of an announcement."""

from ipaddress import IPv4Address

from pilvi.providers.announce import arp_announcement


def test_sender_and_target_are_the_same_address() -> None:
    frame = arp_announcement("02:00:00:00:00:07", IPv4Address("10.250.0.9"))
    assert frame.hex() == (
        "ffffffffffff" + "020000000007" + "0806"
        "0001" + "0800" + "06" + "04" + "0001"
        "020000000007" + "0afa0009" + "000000000000" + "0afa0009"
    )  # fmt: skip
