"""`pilvi image`: what the cloud's own registry holds. Its commands are imported when they are run."""

from __future__ import annotations

from pilvi.cli.lazy import LazyGroup

__all__ = ["image"]

image = LazyGroup(
    name="image",
    package="pilvi.cli.image",
    commands={
        "push": ("push", "Store a disk or a saved image in the cloud's registry."),
        "list": ("list", "List the images of the cloud's registry."),
        "delete": ("delete", "Delete an image from the cloud's registry."),
        "login": ("login", "Write what other programs need to push to the cloud's registry."),
    },
    help="""Keep images in the cloud's own registry, which machines and clusters pull from as pilvi.dev.

\b
Example:
  pilvi image push debian-13.qcow2 debian:13
  pilvi image list
""",
    context_settings={"help_option_names": ["-h", "--help"]},
)
