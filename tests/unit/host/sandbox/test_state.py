"""The state directory: made whole or not at all, and never touched under a running sandbox."""

import json
import os
from pathlib import Path

import msgspec
import pytest

from pilvi.host.sandbox import Bind, SandboxFile, SandboxSpec, prepare_sandbox, remove_sandbox


@pytest.fixture
def spec(tmp_path: Path) -> SandboxSpec:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc").chmod(0o750)
    return SandboxSpec(
        name="m-1",
        root=root,
        state=tmp_path / "state" / "one",
        hostname="one",
        init=("/init", "-x"),
        netns="pv-test-one",
        memory_bytes=1 << 30,
        cpus=1,
        environment={"B": "2", "A": "1"},
        binds=(Bind(source=tmp_path, target=Path("/data"), shared=True),),
        layer_files=(
            SandboxFile(path=Path("/etc/hostname"), content=b"one\n"),
            SandboxFile(path=Path("/var/lib/secret"), content=b"s", mode=0o600),
        ),
        private_files=(SandboxFile(path=Path("/proc/meminfo"), content=b"MemTotal: 1 kB\n", mode=0o444),),
    )


def test_layer_holds_the_files_with_their_modes_and_folders_look_like_the_roots(spec: SandboxSpec) -> None:
    prepare_sandbox(spec)
    assert (spec.layer / "etc/hostname").read_bytes() == b"one\n"
    assert (spec.layer / "etc").stat().st_mode & 0o7777 == 0o750
    assert (spec.layer / "var/lib/secret").stat().st_mode & 0o7777 == 0o600
    assert spec.state.stat().st_mode & 0o7777 == 0o700


def test_document_names_everything_that_the_binary_needs(spec: SandboxSpec, tmp_path: Path) -> None:
    prepare_sandbox(spec)
    document = json.loads(spec.document.read_bytes())
    assert document["hostname"] == "one"
    assert document["root"] == str(spec.root)
    assert document["layer"] == str(spec.layer)
    assert document["init"] == ["/init", "-x"]
    assert document["environment"] == ["A=1", "B=2"]
    assert document["tmpfs"] == [{"options": "mode=755", "target": "/run"}, {"options": "mode=1777", "target": "/tmp"}]  # noqa: S108
    assert document["binds"][0] == {"source": str(tmp_path), "target": "/data", "readOnly": False, "shared": True}
    assert Path(document["binds"][1]["source"]).read_bytes() == b"MemTotal: 1 kB\n"
    assert document["binds"][1]["target"] == "/proc/meminfo"
    assert spec.document.stat().st_mode & 0o7777 == 0o600


def test_second_call_leaves_the_layer_and_renews_private_files(spec: SandboxSpec) -> None:
    prepare_sandbox(spec)
    (spec.layer / "etc/hostname").write_bytes(b"changed inside\n")
    private = Path(json.loads(spec.document.read_bytes())["binds"][1]["source"])
    bound = private.open("rb")
    changed = msgspec.structs.replace(
        spec, private_files=(SandboxFile(path=Path("/proc/meminfo"), content=b"MemTotal: 2 kB\n", mode=0o444),)
    )
    prepare_sandbox(changed)
    assert (spec.layer / "etc/hostname").read_bytes() == b"changed inside\n"
    assert private.read_bytes() == b"MemTotal: 2 kB\n"
    with bound:
        assert bound.read() == b"MemTotal: 1 kB\n"  # what a running sandbox has bound stays whole


def test_layer_cut_short_by_a_crash_is_made_again(spec: SandboxSpec) -> None:
    unfinished = spec.state / "layer.new"
    unfinished.mkdir(parents=True)
    (unfinished / "half").write_bytes(b"")
    prepare_sandbox(spec)
    assert not (spec.layer / "half").exists()
    assert (spec.layer / "etc/hostname").exists()


def test_remove_is_idempotent_and_finishes_one_cut_short(spec: SandboxSpec) -> None:
    prepare_sandbox(spec)
    os.rename(spec.state, spec.state.with_name(".one.removed"))  # killed after the rename
    remove_sandbox(spec.state)
    assert list(spec.state.parent.iterdir()) == []
    prepare_sandbox(spec)
    remove_sandbox(spec.state)
    remove_sandbox(spec.state)
    assert list(spec.state.parent.iterdir()) == []


def test_a_layer_is_on_the_disk_before_it_has_its_name(spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are never written again, so a power cut must not leave them empty."""
    synced: set[str] = set()

    def fsync(descriptor: int) -> None:
        assert not spec.layer.exists()
        synced.add(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fsync", fsync)
    prepare_sandbox(spec)
    assert synced == {"hostname", "secret"}
