"""`pilvi kit`, with the kit itself replaced."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from pilvi import kit
from pilvi.cli.kit import build_missing
from pilvi.cli.progress import Waiting
from pilvi.errors import TimedOut, UserError, format_chain
from pilvi.kit import Listed, Step, Store
from pilvi.node import images
from pilvi.node.images import ListedImage
from pilvi.plane.prune import Plan
from tests.unit.cli.conftest import Invoke


class FakeKit:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.artefact = "missing"
        self.image = "missing"
        self.built: list[str] = []

    def list_artefacts(self) -> list[Listed]:
        versions = {"k8s.io/kubernetes": "v1.37.2", "go.etcd.io/etcd/server/v3": "v3.7.3", "registry.k8s.io/pause:3.10": "built here"}
        return [Listed("kubernetes-1.37", "abc", self.artefact, Path("/kit/kubernetes-1.37-abc"), 3 << 20, versions)]  # type: ignore[arg-type]

    def list_images(self) -> list[ListedImage]:
        path = self.folder / "node-image-v1.37.2-def" if self.image == "built" else None
        return [ListedImage("v1.37.2", self.image, path)]  # type: ignore[arg-type]

    async def build(self, progress: object) -> None:
        assert callable(progress)
        progress(Step(artefact="kubernetes-1.37", state="running", doing="compiling", compiled=3, packages=9))
        progress(Step(artefact="kubernetes-1.37", state="built", seconds=387))
        self.built.append("kit")
        self.artefact = "built"

    async def ensure_images(self, progress: object) -> None:
        assert callable(progress)
        progress("node image: unpacking")
        self.built.append("image")
        self.image = "built"


@pytest.fixture
def fake_kit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeKit:
    made = FakeKit(tmp_path / "kit")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(kit, "list_artefacts", made.list_artefacts)
    monkeypatch.setattr(kit, "build", made.build)
    monkeypatch.setattr(images, "list_images", made.list_images)
    monkeypatch.setattr(images, "ensure_node_images", made.ensure_images)
    return made


async def test_build_makes_what_is_missing_and_then_nothing(fake_kit: FakeKit, invoke: Invoke) -> None:
    result = await invoke("kit", "build")
    assert fake_kit.built == ["kit", "image"]
    assert "✓ kubernetes-1.37 (387.0 s)" in result.stderr
    assert "✓ node image v1.37.2" in result.stderr
    result = await invoke("kit", "build")
    assert fake_kit.built == ["kit", "image"]
    assert result.stderr == "Everything is built already.\n"


async def test_only_the_image_may_be_missing(fake_kit: FakeKit) -> None:
    fake_kit.artefact = "built"
    with Waiting() as waiting:
        assert await build_missing(waiting)
    assert fake_kit.built == ["image"]


async def test_list_in_words_and_as_data(fake_kit: FakeKit, invoke: Invoke) -> None:
    fake_kit.image = "built"
    tree = fake_kit.folder / "node-image-v1.37.2-def" / "usr" / "bin"
    tree.mkdir(parents=True)
    (tree / "kubelet").write_bytes(bytes(5 << 20))
    os.link(tree / "kubelet", tree / "again")
    table = (await invoke("kit", "list")).stdout.splitlines()
    assert table[1].split() == [
        "kubernetes-1.37",
        "abc",
        "missing",
        "3",
        "MiB",
        "kubernetes",
        "v1.37.2,",
        "etcd/server",
        "v3.7.3,",
        "pause:3.10",
    ]
    assert table[2].split() == ["node-image-v1.37.2", "def", "built", "5", "MiB", "kubernetes", "v1.37.2"]
    rows = json.loads((await invoke("kit", "list", "-o", "json")).stdout)
    assert [(row["name"], row["state"]) for row in rows] == [("kubernetes-1.37", "missing"), ("node-image-v1.37.2", "built")]


async def test_export_leaves_the_old_file_when_it_fails(
    fake_kit: FakeKit, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise UserError("there is nothing to export")

    monkeypatch.setattr(kit, "export_archive", fail)
    file = tmp_path / "kit.tar"
    file.write_text("old")
    result = await invoke("kit", "export", str(file))
    assert "nothing to export" in str(result.exception)
    assert file.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kit.tar"]


class Pruning:
    """A kit with one part that goes and one that stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plan = Plan((Path("/kit/node-old"),), {Path("/kit/machine-old"): "cloud abcde in /home"}, 3 << 20)
        self.removed: list[Plan] = []
        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.setattr("pilvi.plane.prune.plan_prune", lambda: self.plan)
        monkeypatch.setattr("pilvi.plane.prune.prune", self.removed.append)


async def test_prune_asks_and_says_what_stays_for_whom(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    pruning = Pruning(monkeypatch)
    result = await invoke("kit", "prune")
    assert isinstance(result.exception, UserError)
    assert "--yes" in str(result.exception.hint)
    assert pruning.removed == []
    result = await invoke("kit", "prune", "--yes")
    assert pruning.removed == [pruning.plan]
    assert result.stdout == "machine-old stays: cloud abcde in /home uses it\n"
    assert "Removed node-old: 3 MiB are free again." in result.stderr


async def test_prune_of_a_kit_without_anything_old(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    pruning = Pruning(monkeypatch)
    pruning.plan = Plan((), {}, 0)
    assert (await invoke("kit", "prune")).stdout == "There is nothing to remove.\n"
    assert pruning.removed == []


async def test_a_full_disk_is_told_in_words(fake_kit: FakeKit, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(kit, "export_archive", fail)
    result = await invoke("kit", "export", str(tmp_path / "kit.tar"))
    assert format_chain(result.exception or Exception()).startswith(f"{tmp_path}/kit.tar cannot be written: No space left on device; ")


async def test_a_build_has_a_deadline(fake_kit: FakeKit, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    async def build(_: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(kit, "build", build)
    result = await invoke("kit", "build", "--timeout", "0.1")
    assert isinstance(result.exception, TimedOut)


def test_a_busy_kit_is_told_in_words(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.locked(), pytest.raises(UserError) as raised, store.locked():
        pass
    assert format_chain(raised.value) == f"another pilvi command is at work in {tmp_path}; wait until it has finished"
