"""External programs, on this machine and in the tree of unpacked packages."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def run(*words: str | Path, env: Mapping[str, str] | None = None, input: bytes | None = None) -> str:
    """Run it to its end and return what it printed; raises CalledProcessError, whose note is what it complained about."""
    done = subprocess.run(words, check=False, capture_output=True, input=input, env={"PATH": _PATH, "LC_ALL": "C.UTF-8", **(env or {})})
    try:
        done.check_returncode()
    except subprocess.CalledProcessError as e:
        e.add_note(done.stderr.decode(errors="replace")[-4000:])
        raise
    return done.stdout.decode()


def run_in(tree: Path, *words: str | Path, input: bytes | None = None) -> str:
    """Run a program of the tree with the tree as its root and a /proc of its own; a path below the tree is given as the program sees it."""
    inside = ["/" + str(word.relative_to(tree)) if isinstance(word, Path) else word for word in words]
    return run("unshare", "--fork", "--pid", "--mount-proc", "--root", tree, *inside, input=input)
