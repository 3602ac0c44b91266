"""`--help` and `version` have to answer within 0.2 s: held by what they import, since wall time depends on the machine."""

import resource
import subprocess
import sys

import pytest

from pilvi.cli.version import read_kubernetes_versions
from pilvi.kit import kubernetes_versions

HEAVY = {"aiohttp", "cryptography", "jinja2", "pyroute2", "rich", "asyncio", "yaml", "pilvi.kube", "pilvi.host.cloud", "pilvi.plane.why"}


def modules_of(*arguments: str) -> set[str]:
    """What the interpreter has loaded when the command has ended."""
    program = """
import sys
from pilvi.cli import main
sys.argv = ["pilvi", *sys.argv[1:]]
try:
    main()
finally:
    print("\\n" + "\\n".join(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["cluster", "--help"], ["up", "--help"], ["cluster", "create", "--help"], ["run", "--help"], ["kit", "--help"]],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    loaded = modules_of(*arguments)
    assert "click" in loaded
    assert not loaded & HEAVY


def test_version_imports_nothing_heavy_and_says_the_same_as_the_kit() -> None:
    assert not modules_of("version") & HEAVY
    assert read_kubernetes_versions() == kubernetes_versions()


@pytest.mark.parametrize("arguments", [["--help"], ["version"]])
def test_it_costs_little_more_than_python_itself(arguments: list[str]) -> None:
    """Processor time, the least of some runs, against as many that only import click: a busy machine does not count."""

    def least(*argv: str) -> float:
        spent = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *argv], check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(spent)

    bare = least("-c", "import click")
    ours = least("-c", "from pilvi.cli import main; main()", *arguments)
    assert ours < 1.5 * bare + 0.02
