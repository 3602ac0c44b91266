import io
from pathlib import Path

import pytest

from pilvi.host import mounts

TABLE = rb"""27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
50 27 0:40 / /var/lib/pilvi/with\040space rw shared:5 - tmpfs tmpfs rw,size=4k
51 50 0:41 / /var/lib/pilvi/with\040space/deep rw - overlay overlay rw,lowerdir=/a
52 27 0:42 / /var/lib/pilvi2 rw - tmpfs tmpfs rw
"""


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "open", lambda *_: io.BytesIO(TABLE), raising=False)


def test_below_a_path_only() -> None:
    found = mounts.list_mounts(Path("/var/lib/pilvi"))
    assert [(str(mount.point), mount.fs_type) for mount in found] == [
        ("/var/lib/pilvi/with space", "tmpfs"),
        ("/var/lib/pilvi/with space/deep", "overlay"),
    ]
    assert found[1].options == "rw,lowerdir=/a"
    assert len(mounts.list_mounts()) == 4


def test_find() -> None:
    found = mounts.find_mount(Path("/var/lib/pilvi2"))
    assert found is not None
    assert found.fs_type == "tmpfs"
    assert mounts.find_mount(Path("/var/lib/pilvi")) is None


def test_overlay_refuses_what_its_options_cannot_hold() -> None:
    with pytest.raises(ValueError, match="comma, colon"):
        mounts.mount_overlay(Path("/x"), lower=[Path("/a:b")])
