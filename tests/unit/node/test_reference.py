"""The name of the node image."""

from pathlib import Path

import pytest

from pilvi.lib.files import write_json
from pilvi.node import find_node_image, node_image_reference, parse_node_image


@pytest.mark.parametrize("version", ["1.37.2", "v1.37.2"])
def test_reference_always_has_a_v(version: str) -> None:
    assert node_image_reference(version) == "pilvi.dev/node:v1.37.2"


@pytest.mark.parametrize("reference", ["pilvi.dev/node:v1.37.2", "pilvi.dev/node:1.37.2"])
def test_both_spellings_are_known(reference: str) -> None:
    assert parse_node_image(reference) == "v1.37.2"


@pytest.mark.parametrize(
    "reference",
    ["pilvi.dev/node", "pilvi.dev/node:latest", "pilvi.dev/node:v1.37", "pilvi.dev/node:v1.37.2-x", "quay.io/pilvi.dev/node:v1.37.2", "x"],
)
def test_other_images_are_not_ours(reference: str) -> None:
    assert parse_node_image(reference) is None


def test_only_complete_images_of_the_version_are_found(tmp_path: Path) -> None:
    for name, version in (("node-image-v1.37.2-aaa", "v1.37.2"), ("node-image-v1.36.3-bbb", "v1.36.3")):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "image.json", {"version": version, "pause": "p:1"})
    (tmp_path / "node-image-v1.37.2-ccc").mkdir()  # no image.json: not complete
    image = find_node_image("1.37.2", tmp_path)
    assert image is not None
    assert image.root == tmp_path / "node-image-v1.37.2-aaa/root"
    assert image.pause == "p:1"
    assert find_node_image("1.35.0", tmp_path) is None
