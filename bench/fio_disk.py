"""A disk with fio and its libraries for a guest that has neither: `mount` it, bind /dev into it, and `chroot`."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

_SIZE_MIB = 160


def make_fio_disk() -> bytes:
    """An ext4 file system of the host's fio. Raises CalledProcessError when a step fails."""
    with tempfile.TemporaryDirectory(prefix="bench-fio-") as name:
        folder = Path(name)
        tree, image = folder / "tree", folder / "disk"
        for empty in ("dev", "tmp", "proc", "sys"):
            (tree / empty).mkdir(parents=True)
        program = shutil.which("fio")
        assert program, "fio is missing; run make bench"
        needed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
        for path in [program, *re.findall(r"(/\S+) \(0x", needed)]:
            target = tree / Path(path).relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o755)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, image, f"{_SIZE_MIB}m"], check=True, stdout=subprocess.DEVNULL)
        return image.read_bytes()
