"""Back-off, clock, deadline, hashing, and the tree of errors."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime

import pytest
import yaml

from pilvi import errors
from pilvi.lib.backoff import Backoff
from pilvi.lib.clock import format_micro_time, format_time, parse_duration, parse_time
from pilvi.lib.deadline import Deadline, wait_for, within
from pilvi.lib.hashing import short_hash
from pilvi.lib.similar import find_similar
from tests.virtual_time import run_virtual


def test_backoff_grows_to_its_limit_and_starts_again() -> None:
    backoff = Backoff(1, 10, jitter=0)
    assert [backoff.next_s() for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert backoff.failures == 6
    backoff.reset()
    assert backoff.next_s() == 1


def test_backoff_jitter_only_shortens_and_never_overflows() -> None:
    backoff = Backoff(1, 10, jitter=0.5)
    delays = [backoff.next_s() for _ in range(5000)]
    assert max(delays) <= 10
    assert min(delays) >= 0.5
    assert len(set(delays)) > 4000


def test_times() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC)
    assert format_time(moment) == "2026-01-02T03:04:05Z"
    assert format_micro_time(moment) == "2026-01-02T03:04:05.678900Z"
    assert parse_time(format_micro_time(moment)) == moment
    with pytest.raises(ValueError, match="no zone"):
        parse_time("2026-01-02T03:04:05")


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("0s", 0), ("90s", 90), ("1h30m", 5400), ("1.5m", 90), ("250ms", 0.25), ("5m0s", 300)]
)
def test_durations_of_go(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "1d", "\u0661s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_short_hash_is_stable() -> None:
    assert short_hash("abc") == "ba7816bf"


def test_wait_for_returns_what_is_true() -> None:
    async def main() -> None:
        start = asyncio.get_running_loop().time()
        assert await wait_for(lambda: asyncio.get_running_loop().time() > start + 100 and "there", 200, "it") == "there"

        async def later() -> int:
            return 5

        assert await wait_for(later, 1, "five") == 5

    run_virtual(main)


def test_wait_for_tells_the_last_state() -> None:
    async def main() -> None:
        seen = []
        with pytest.raises(errors.TimedOut, match=r"timed out after 3 s waiting for it, last seen: [56]\d"):
            await wait_for(lambda: seen.append(1), 3, lambda: f"it, last seen: {len(seen)}")

        async def hangs() -> bool:
            await asyncio.sleep(1000)
            return True

        with pytest.raises(errors.TimedOut):
            await wait_for(hangs, 3, "what hangs")

        async def has_own_timeout() -> bool:
            raise TimeoutError("its own")

        with pytest.raises(TimeoutError, match="its own"):
            await wait_for(has_own_timeout, 3, "what raises")

    run_virtual(main)


def test_chain_has_each_text_once_and_the_hint_last() -> None:
    def fails() -> None:
        try:
            try:
                {}["spec"]  # type: ignore[index]
            except KeyError as e:
                raise errors.DriverError(["ip", "link"], 2, "no such device\n") from e
        except errors.DriverError as e:
            raise errors.UserError("cannot make the bridge", hint="run pilvi doctor") from e

    with pytest.raises(errors.UserError) as caught:
        fails()
    assert errors.format_chain(caught.value) == (
        "cannot make the bridge: command failed with exit code 2: ip link: no such device: KeyError: 'spec'; run pilvi doctor"
    )


def test_errors_of_the_system_and_of_yaml_become_words() -> None:
    refused = ConnectionRefusedError(111, "Connect call failed ('10.0.0.1', 6443)")
    assert errors.format_chain(refused) == "Connection refused"
    assert errors.format_chain(PermissionError(13, "Permission denied", "/a/b")) == "/a/b: Permission denied"
    # Its numbers are another library's: 1 is no EPERM.
    assert errors.format_chain(ssl.SSLError(1, "wrong version number")) == "SSLError: wrong version number"
    with pytest.raises(yaml.YAMLError) as caught:
        yaml.load("a: 1\n  b: [", Loader=yaml.CSafeLoader)
    assert errors.format_chain(caught.value) == "line 2, column 4: mapping values are not allowed in this context"


def test_one_deadline_for_several_waits() -> None:
    deadline = Deadline(50)
    assert 49 < deadline.left_s <= 50
    assert Deadline(-5).left_s == 0.1


def test_work_within_a_time() -> None:
    async def main() -> None:
        assert await within(5, asyncio.sleep(1, "done"), "it") == "done"
        with pytest.raises(errors.TimedOut, match="timed out after 5 s waiting for it") as caught:
            await within(5, asyncio.sleep(6), "it", "try again")
        assert errors.find_hint(caught.value) == "try again"

        async def has_own_timeout() -> None:
            raise TimeoutError("its own")

        with pytest.raises(TimeoutError, match="its own"):
            await within(5, has_own_timeout(), "it")

    run_virtual(main)


def test_what_was_meant() -> None:
    assert find_similar("clutser", ["cluster", "machine"]) == "cluster"
    assert find_similar("pizza", ["cluster", "machine"]) is None


def test_chain_of_a_group() -> None:
    group = ExceptionGroup("several", [errors.Bug("one"), ValueError("two")])
    assert errors.format_chain(group) == "one | ValueError: two"


def test_a_busy_server_is_both_an_api_error_and_transient() -> None:
    busy = errors.TooManyRequests("slow down", {"code": 429, "reason": "TooManyRequests"}, retry_after_s=3)
    assert isinstance(busy, errors.Transient)
    assert (busy.code, busy.reason, busy.retry_after_s, str(busy)) == (429, "TooManyRequests", 3, "slow down")
