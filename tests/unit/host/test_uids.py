from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pilvi.host.uids import UID_BLOCK_SIZE, UID_POOL, find_uid_block, list_taken_uids


def test_first_block() -> None:
    assert find_uid_block([]) == UID_POOL.start
    assert find_uid_block([range(0, 65536)]) == UID_POOL.start


@given(st.lists(st.tuples(st.integers(0, 40 * UID_BLOCK_SIZE), st.integers(0, 3 * UID_BLOCK_SIZE)), max_size=8))
def test_block_meets_nothing_taken(taken: list[tuple[int, int]]) -> None:
    ranges = [range(UID_POOL.start + first, UID_POOL.start + first + length) for first, length in taken]
    base = find_uid_block(ranges)
    assert base in UID_POOL
    assert (base - UID_POOL.start) % UID_BLOCK_SIZE == 0
    assert not any(set(uids) & set(range(base, base + UID_BLOCK_SIZE)) for uids in ranges)


def test_subuids_count_as_taken(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text(f"somebody:{UID_POOL.start}:65536\n# comment\nbroken\n")
    assert range(UID_POOL.start, UID_POOL.start + 65536) in list_taken_uids(file)
    assert find_uid_block(list_taken_uids(file)) == UID_POOL.start + 65536
    assert range(0, 1) in list_taken_uids(tmp_path / "none")
