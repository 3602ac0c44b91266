"""Runs the plain scripts and reads what they measured."""

import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

from pilvi import kit

HERE = Path(__file__).parent


def control_plane() -> dict[str, float]:
    """`readyz` and `usable` in seconds, `memory` in MiB, of a control plane that a script has started."""
    with tempfile.TemporaryDirectory(prefix="pilvi-bench-", dir="/var/lib") as folder:
        return _run(
            ["unshare", "--net", str(HERE / "control-plane.sh"), folder, kit.kubernetes_versions()[-1]], kit.get_binary("kubeadm").parent
        )


def container() -> dict[str, float]:
    """`container` in seconds: one container of the pause image, started by containerd's own command."""
    with tempfile.TemporaryDirectory(prefix="pilvi-bench-", dir="/var/lib") as folder:
        return _run([str(HERE / "container.sh"), folder, str(_pause()), pause_reference()], kit.get_binary("containerd").parent)


def pause_reference() -> str:
    """The name of the one image that starts nothing, which every node has."""
    with tarfile.open(_pause()) as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        return str(json.load(index)["manifests"][0]["annotations"]["io.containerd.image.name"])


def _pause() -> Path:
    return next(path for path in kit.image_archives() if path.name == "pause.tar")


def _run(argv: list[str], programs: Path) -> dict[str, float]:
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": "/root"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return {name: float(value) for name, value in (line.split() for line in done.stdout.splitlines())}
