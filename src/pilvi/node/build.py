"""The node image of a Kubernetes version, made from what the kit has built. Called by whoever builds the kit, and by tests."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pilvi import kit
from pilvi.errors import UserError
from pilvi.kit.store import DEFAULT_ROOT
from pilvi.node.image import NodeImageInputs, build_node_image
from pilvi.node.programs import find_programs
from pilvi.node.reference import NodeImage


async def ensure_node_image(version: str, progress: Callable[[str], None] = lambda _: None) -> NodeImage:
    """Build the node image of `version` (with or without `v`) beside the kit's artefacts unless it is there; safe to repeat and interrupt.

    Half a minute and 130 MB beside hard links to the kit's programs. `progress` gets a short line at each step. Needs root.
    Raises UserError when the kit is not built, the version is unknown or mmdebstrap is missing; DriverError when a step fails.
    """
    if shutil.which("mmdebstrap") is None:
        raise UserError("mmdebstrap, which installs the node image's Debian packages, is missing", hint="run `apt-get install mmdebstrap`")
    root = Path(os.environ.get("PILVI_CACHE") or DEFAULT_ROOT)
    return await build_node_image(_inputs(f"v{version.removeprefix('v')}"), root, progress)


def _inputs(version: str) -> NodeImageInputs:
    archives = tuple(kit.image_archives(version))
    return NodeImageInputs(
        version=version,
        programs=find_programs(lambda name: kit.get_binary(name, version)),
        archives=archives,
        pause=_pause_reference(archives[0].parent),
    )


def _pause_reference(images: Path) -> str:
    """The reference under which the kit has made the pause image; the kit's list names all in the artefact."""
    references = [reference for listed in kit.list_artefacts() if listed.path == images for reference in listed.versions or ()]
    found = next((reference for reference in references if reference.partition(":")[0].endswith("/pause")), None)
    if found is None:
        raise UserError(f"the kit's images in {images} have no pause image among them", hint="run `pilvi kit build`")
    return found
