"""What is known of the system inside a sandbox."""

from __future__ import annotations

import platform as host_platform

from pilvi.node import NodeImage

__all__ = ["guest_os"]


def guest_os(image: NodeImage) -> dict[str, str]:
    """KubeVirt's guestOSInfo: what the image's os-release says, and the kernel, which is the host's."""
    kernel = host_platform.uname()
    release: dict[str, str] = {}
    path = image.root / "etc" / "os-release"
    if path.is_file():
        for line in path.read_text().splitlines():
            name, _, value = line.partition("=")
            release[name] = value.strip('"')
    known = {
        "name": release.get("NAME"),
        "id": release.get("ID"),
        "version": release.get("VERSION"),
        "versionId": release.get("VERSION_ID"),
        "prettyName": release.get("PRETTY_NAME"),
        "kernelRelease": kernel.release,
        "kernelVersion": kernel.version,
        "machine": kernel.machine,
    }
    return {name: value for name, value in known.items() if value}
