from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.errors import ApiUnreachable
from pilvi.kube.lines import LineSplitter


@given(st.lists(st.binary(min_size=1).map(lambda line: line.replace(b"\n", b"_"))), st.integers(1, 20))
def test_any_chunking_gives_the_same_lines(lines: list[bytes], step: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter()
    found = [line for start in range(0, len(data), step) for line in splitter.feed(data[start : start + step])]
    assert found == lines


def test_a_cut_off_line_is_not_given_out() -> None:
    assert LineSplitter().feed(b"one\n\ntw") == [b"one"]


def test_a_line_of_megabytes_in_small_chunks_is_linear() -> None:
    splitter = LineSplitter()
    started = time.process_time()
    for _ in range(2000):
        assert splitter.feed(b"x" * 4000) == []
    (line,) = splitter.feed(b"\n")
    assert len(line) == 8_000_000
    assert time.process_time() - started < 2


def test_too_long_a_line() -> None:
    splitter = LineSplitter(max_line_bytes=100)
    splitter.feed(b"x" * 100)
    with pytest.raises(ApiUnreachable, match="more than 100 bytes"):
        splitter.feed(b"x")
