"""The linters run inside the one test command, so that a tree that passes it is clean."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PROGRAMS = Path(sys.executable).parent
SHELL_SCRIPTS = sorted(
    str(path.relative_to(REPOSITORY)) for pattern in (".ci/run", "scripts/*", "bench/floor/*.sh") for path in REPOSITORY.glob(pattern)
)


@pytest.mark.parametrize(
    "argv",
    [["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"], ["lint-imports"]],
    ids=["ruff format", "ruff check", "mypy", "import layers"],
)
def test_python(argv: list[str]) -> None:
    check([str(PROGRAMS / argv[0]), *argv[1:]])


@pytest.mark.parametrize("script", SHELL_SCRIPTS)
def test_shell_scripts(script: str) -> None:
    """As far as the shell itself judges; shellcheck, where it is installed, judges more."""
    check(["sh", "-n", script])
    if shellcheck := shutil.which("shellcheck"):
        check([shellcheck, script])


def test_go_is_formatted() -> None:
    gofmt = shutil.which("gofmt", path="/usr/local/go/bin:/usr/bin:/usr/lib/go/bin")
    if gofmt is None:
        pytest.skip("the Go on this machine came without gofmt")
    assert check([gofmt, "-l", "src", "tests"]) == ""


def check(argv: list[str]) -> str:
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"
    return done.stdout
