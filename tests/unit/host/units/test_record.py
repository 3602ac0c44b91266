"""The file by which a unit is found again, and what a launcher that was killed leaves of one."""

import json
from pathlib import Path

from pilvi.host.units.launch import write_record
from pilvi.host.units.record import record_path, remove_record


def test_what_a_killed_launcher_has_left_is_no_record_and_goes_with_the_next(tmp_path: Path) -> None:
    path = record_path(tmp_path, "m-1")
    (tmp_path / ".m-1.json.new").touch(0o600)
    (tmp_path / ".m-1.json.new").write_text(
        "half of a record that is longer than the next one is, as long as a specification with many words"
    )
    (tmp_path / "m-10.json").write_text("another unit's")
    write_record(path, {"spec": {}})
    assert json.loads(path.read_text()).keys() == {"spec", "process"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m-1.json", "m-10.json"]
    (tmp_path / ".m-1.json.new").write_text("half")
    for _ in range(2):
        remove_record(tmp_path, "m-1")
        assert [file.name for file in tmp_path.iterdir()] == ["m-10.json"]
