"""What a newcomer and a CI runner type first, with everything below it replaced."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def put(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("target", ["up", "down"])
def test_sudo_keeps_what_pilvi_reads_from_the_environment(target: str, tmp_path: Path) -> None:
    put(tmp_path / "id", "echo 1000")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    printed = subprocess.run(
        ["make", "--dry-run", target], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert f"sudo --preserve-env=KUBECONFIG,PILVI_HOME,PILVI_CACHE .venv/bin/pilvi {target}" in printed


def test_a_runner_may_lack_make(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / ".ci", tmp_path / ".ci")
    programs = tmp_path / "bin"
    put(programs / "dirname", '/usr/bin/dirname "$@"')
    put(tmp_path / "new" / "make", 'echo "made $1"')
    put(tmp_path / "scripts" / "install-packages", f"/bin/mv {tmp_path}/new/make {programs}")
    done = subprocess.run([tmp_path / ".ci" / "run"], env={"PATH": str(programs)}, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("made test\n", "")
