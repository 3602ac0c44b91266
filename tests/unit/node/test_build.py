"""What of the kit goes into a node image."""

from pathlib import Path

import pytest

from pilvi import kit
from pilvi.errors import UserError
from pilvi.kit import Listed
from pilvi.node.build import _pause_reference

IMAGES = Path("/kit/images-1.37-abc")


def test_pause_is_the_reference_of_that_artefact(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Listed("images-1.36", "x", "built", Path("/kit/images-1.36-x"), 1, {"registry/pause:3.9": "built here"})
    ours = Listed("images-1.37", "abc", "built", IMAGES, 1, {"registry/kube-proxy:v1.37.2": "v1.37.2", "registry/pause:3.10": "built here"})
    monkeypatch.setattr(kit, "list_artefacts", lambda: [other, ours])
    assert _pause_reference(IMAGES) == "registry/pause:3.10"


def test_images_without_pause_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "list_artefacts", lambda: [Listed("images-1.37", "abc", "built", IMAGES, 1, {"registry/coredns:v1": "v1"})])
    with pytest.raises(UserError, match="pause"):
        _pause_reference(IMAGES)
