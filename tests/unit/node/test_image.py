"""The name of a built image follows what goes in; a failed build leaves nothing."""

import os
from pathlib import Path

import msgspec
import pytest

from pilvi.errors import DriverError
from pilvi.node import image as node_image
from pilvi.node.image import NodeImageInputs, build_node_image
from pilvi.node.programs import NodePrograms, find_programs


@pytest.fixture
def inputs(tmp_path: Path) -> NodeImageInputs:
    (tmp_path / "bin").mkdir()

    def binary(name: str) -> Path:
        path = tmp_path / "bin" / name
        path.write_text(name)
        return path

    (tmp_path / "pause.tar").write_text("archive")
    return NodeImageInputs(version="v1.37.2", programs=find_programs(binary), archives=(tmp_path / "pause.tar",), pause="pause:1")


def test_digest_follows_every_input(inputs: NodeImageInputs, tmp_path: Path) -> None:
    before = inputs.digest()
    assert inputs.digest() == before
    assert msgspec.structs.replace(inputs, pause="pause:2").digest() != before
    (tmp_path / "pause.tar").write_text("other archive")
    changed = inputs.digest()
    assert changed != before
    (tmp_path / "bin/runc").write_text("other runc")
    assert inputs.digest() != changed


def test_programs_land_where_a_node_looks_for_them(inputs: NodeImageInputs, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    node_image._fill(root, inputs.programs)
    for name in ("kubelet", "kubeadm", "kubectl"):
        assert (root / "usr/bin" / name).resolve() == root / "usr/lib/pilvi/kube"
    assert (root / "usr/bin/systemctl").resolve() == root / "usr/lib/pilvi/node-init"
    assert (root / "opt/cni/bin/host-local").read_text() == "host-local"
    assert (root / "var/lib/kubelet").is_dir()


async def test_failed_build_leaves_nothing(inputs: NodeImageInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(root: Path, _packages: tuple[str, ...]) -> None:
        os.mkdir(root)
        raise DriverError(["mmdebstrap"], 1, "no network")

    monkeypatch.setattr(node_image, "bootstrap_debian", fail)
    kit = tmp_path / "kit"
    with pytest.raises(DriverError):
        await build_node_image(inputs, kit, lambda _: None)
    assert list(kit.iterdir()) == []


async def test_existing_image_is_taken_as_it_is(inputs: NodeImageInputs, tmp_path: Path) -> None:
    folder = tmp_path / f"node-image-v1.37.2-{inputs.digest()}"
    folder.mkdir()
    image = await build_node_image(inputs, tmp_path, lambda _: None)
    assert image.root == folder / "root"


def test_programs_name_the_multi_call_binary(inputs: NodeImageInputs) -> None:
    assert isinstance(inputs.programs, NodePrograms)
    assert inputs.programs.kube.name == "kubelet"
