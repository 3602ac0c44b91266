"""What of `extraArgs` may reach a component. Pure.

The component runs on the host, as a user of its own. A flag may name a file that this user can read or write all the same (a line of
/etc/passwd would end in an error message, an audit log could fill /dev/shm, which is memory), and one that replaces where the component
listens, or where its data is, breaks what pilvi built around it.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from pilvi.controlplane.spec import Flags
from pilvi.errors import UserError

__all__ = ["read_arguments"]

_LEFT_OUT = "leave it out"
OURS = {
    "--advertise-address": "set spec.networkProfile.advertiseAddress",
    "--authentication-kubeconfig": _LEFT_OUT,
    "--authorization-kubeconfig": _LEFT_OUT,
    "--bind-address": _LEFT_OUT,
    "--cluster-cidr": "set spec.networkProfile.podCidr",
    "--etcd-cafile": _LEFT_OUT,
    "--etcd-certfile": _LEFT_OUT,
    "--etcd-keyfile": _LEFT_OUT,
    "--etcd-prefix": _LEFT_OUT,
    "--etcd-servers": _LEFT_OUT,
    "--etcd-servers-overrides": _LEFT_OUT,
    "--kubeconfig": _LEFT_OUT,
    "--master": _LEFT_OUT,
    "--secure-port": "set spec.networkProfile.port",
    "--service-cluster-ip-range": "set spec.networkProfile.serviceCidr",
}
"""Flags that only pilvi sets, and what to write instead."""

# Their values look like files, and are paths or patterns of URLs.
_OF_URLS = {"--authorization-always-allow-paths", "--cors-allowed-origins", "--long-running-request-regexp"}
_SEPARATORS = re.compile(r"[,=\s\"']")
_UPWARDS = re.compile(r"(^|[/=,\s\"'])\.\.([/,\s\"']|$)")


def read_arguments(arguments: Iterable[str], component: str, folder: Path) -> Flags:
    """The flags of `extraArgs.<component>`. `folder` is the control plane's own, where it may name files.

    Raises UserError for what is no flag, names a file outside of `folder`, or is one of `OURS`.
    """
    flags = tuple(arguments)
    for flag in flags:
        field = f"spec.controlPlane.deployment.extraArgs.{component} has {flag!r}"
        if not flag.startswith("--"):
            raise UserError(f"{field}, which is not a flag", hint="write it as --name=value")
        name, _, value = flag.partition("=")
        name = name.replace("_", "-")  # Kubernetes' components take both
        if name in OURS:
            raise UserError(f"{field}, which only pilvi sets", hint=OURS[name])
        if _UPWARDS.search(flag) or (name not in _OF_URLS and _names_file_outside(value, folder)):
            raise UserError(f"{field}, a file of the host", hint="leave it out; a control plane reads and writes no files but its own")
    return flags


def _names_file_outside(value: str, folder: Path) -> bool:
    """Also in a list (`/a.crt,/a.key`) and in quotes, or as a URL of files and sockets."""
    pieces = (piece.removeprefix("file://").removeprefix("unix://") for piece in _SEPARATORS.split(value))
    return any(piece.startswith("/") and not Path(piece).is_relative_to(folder) for piece in pieces)
