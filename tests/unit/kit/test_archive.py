import errno
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilvi.errors import UserError
from pilvi.kit import archive
from pilvi.kit.archive import export_archive, import_archive
from pilvi.kit.store import Store
from tests.unit.kit.fakes import finish

NAMES = ("kubernetes-1.37", "node", "addons")
Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def full(tmp_path: Path) -> Store:
    store = Store(tmp_path / "full")
    for name in NAMES:
        finish(store, name)
    return store


@pytest.fixture
def exported(full: Store, tmp_path: Path) -> Path:
    export_archive(full, tmp_path / "kit.tar")
    return tmp_path / "kit.tar"


def snapshot(root: Path) -> dict[str, tuple[int, str]]:
    found = {}
    for path in sorted(root.rglob("*")):
        content = os.readlink(path) if path.is_symlink() else "" if path.is_dir() else path.read_text()
        found[str(path.relative_to(root))] = (path.lstat().st_mode, content)
    return {name: entry for name, entry in found.items() if name != ".lock"}


def rewrite(path: Path, change: Callable[[Members], Members]) -> None:
    with tarfile.open(path) as tar:
        members = [(member, file.read() if (file := tar.extractfile(member)) else b"") for member in tar]
    with tarfile.open(path, "w") as tar:
        for member, data in change(members):
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def change_json(suffix: str, change: Callable[[Any], None]) -> Callable[[Members], Members]:
    def apply(members: Members) -> Members:
        return [(member, changed(data) if member.name.endswith(suffix) else data) for member, data in members]

    def changed(data: bytes) -> bytes:
        value = json.loads(data)
        change(value)
        return json.dumps(value).encode()

    return apply


def refuse(store: Store, path: Path, message: str) -> None:
    """The import must fail with this message and leave nothing."""
    with pytest.raises(UserError, match=message):
        import_archive(store, path)
    assert [entry.name for entry in store.root.iterdir()] == [".lock"]


@pytest.mark.parametrize("name", ["kit.tar", "kit.tar.gz", "kit.tgz"])
def test_import_gives_what_was_exported(full: Store, store: Store, tmp_path: Path, name: str) -> None:
    listed = export_archive(full, tmp_path / name)
    assert [item.name for item in listed] == ["kubernetes-1.37", "addons", "node"]
    assert (tmp_path / name).read_bytes()[:2] == (b"\x1f\x8b" if name.endswith("gz") else b"ki")
    import_archive(store, tmp_path / name)
    assert snapshot(store.root) == snapshot(full.root)
    assert os.readlink(store.get_binary("kubeadm")) == "kube"


def test_import_keeps_what_is_already_there(exported: Path, full: Store) -> None:
    before = {path: path.stat().st_ino for path in full.root.iterdir()}
    import_archive(full, exported)
    assert {path: path.stat().st_ino for path in full.root.iterdir()} == before | {full.root / ".lock": (full.root / ".lock").stat().st_ino}


def test_nothing_built_is_nothing_to_export(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to export"):
        export_archive(store, tmp_path / "kit.tar")
    assert not (tmp_path / "kit.tar").exists()


def test_an_export_that_fails_leaves_the_old_file(full: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "kit.tar").write_text("old")

    def full_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(archive, "_add_artefact", full_disk)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        export_archive(full, folder / "kit.tar")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("kit.tar", "old")]


def test_an_import_on_a_full_disk_leaves_nothing(exported: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = 0

    def full_disk(source: Any, output: Any, length: int) -> None:
        nonlocal copied
        copied += 1
        if copied == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        output.write(source.read())

    monkeypatch.setattr(shutil, "copyfileobj", full_disk)
    refuse(store, exported, "cannot be imported: No space left on device")


def test_no_such_file(store: Store, tmp_path: Path) -> None:
    refuse(store, tmp_path / "none.tar", "there is no archive")


@pytest.mark.parametrize("content", [b"", b"text " * 1000, b"\x1f\x8b" + b"x" * 1000])
def test_what_is_no_tar_is_refused(store: Store, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    refuse(store, tmp_path / "file", "is not an archive of a kit")


def test_another_tar_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.add(tmp_path / "a", "a")
    refuse(store, tmp_path / "other.tar", "does not begin with kit.json")


def test_another_format_is_refused(store: Store, exported: Path) -> None:
    rewrite(exported, change_json("kit.json", lambda index: index.update(format=9)))
    refuse(store, exported, "has format 9, and this pilvi reads format 1")


def test_another_kind_of_machine_is_refused(store: Store, exported: Path) -> None:
    rewrite(exported, change_json("kit.json", lambda index: index.update(machine="riscv64")))
    refuse(store, exported, "holds programs for riscv64")


def test_an_archive_of_other_sources_is_refused(store: Store, exported: Path) -> None:
    rewrite(exported, change_json("kit.json", lambda index: index.update(folders=["node-000000000000"])))
    refuse(store, exported, "another version of pilvi")


def test_one_changed_byte_is_found(store: Store, exported: Path) -> None:
    def change(members: Members) -> Members:
        return [(member, data.replace(b"echo", b"ecHo") if member.name.endswith("/runc") else data) for member, data in members]

    rewrite(exported, change)
    refuse(store, exported, r"damaged: node-\w+/bin/runc is not what its checksum says")


def test_a_missing_file_is_found(store: Store, exported: Path) -> None:
    rewrite(exported, lambda members: [entry for entry in members if not entry[0].name.endswith("/runc")])
    refuse(store, exported, r"node-\w+/bin/runc is not what its checksum says")


def test_a_cut_off_archive_is_found(store: Store, exported: Path) -> None:
    rewrite(exported, lambda members: [entry for entry in members if not entry[0].name.startswith("node-")])
    refuse(store, exported, r"cut off: node-\w+ is missing")
    exported.write_bytes(exported.read_bytes()[:5000])
    refuse(store, exported, "is damaged: kubernetes")
    exported.write_bytes(exported.read_bytes()[:700])
    refuse(store, exported, "is not an archive of a kit, or is damaged")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "{node}/../../evil", "{node}//bin/evil", "{node}/./evil", "{node}/", "evil"])
def test_paths_that_lead_out_are_refused(store: Store, exported: Path, name: str) -> None:
    path = name.replace("{node}", store.path("node").name)
    rewrite(exported, lambda members: [*members, (tarfile.TarInfo(path), b"evil")])
    refuse(store, exported, "does not belong into a kit")


def test_a_file_that_the_metadata_does_not_name_is_refused(store: Store, exported: Path) -> None:
    rewrite(exported, lambda members: [*members, (tarfile.TarInfo(f"{store.path('node').name}/bin/evil"), b"evil")])
    refuse(store, exported, "bin/evil is not what .*artefact.json says")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_only_regular_files_are_taken(store: Store, exported: Path, kind: bytes) -> None:
    def add(members: Members) -> Members:
        info = tarfile.TarInfo(f"{store.path('node').name}/bin/evil")
        info.type, info.linkname = kind, "/etc/passwd"
        return [*members, (info, b"")]

    rewrite(exported, add)
    refuse(store, exported, "does not belong into a kit")


@pytest.mark.parametrize(
    "change",
    [
        lambda artefact: artefact["files"].update({"../evil": {"sha256": "", "size": 1, "executable": False}}),
        lambda artefact: artefact["links"].update({"bin/evil": "../../../etc/passwd"}),
        lambda artefact: artefact["links"].update({"/evil": "kube"}),
        lambda artefact: artefact.update(key="000000000000"),
    ],
)
def test_metadata_that_leads_out_is_refused(store: Store, exported: Path, change: Callable[[Any], None]) -> None:
    rewrite(exported, change_json("artefact.json", change))
    refuse(store, exported, "names paths that do not belong into")
