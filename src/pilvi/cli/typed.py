"""Commands as they have to be typed here: pilvi may lie in `.venv/bin`, and sudo has a PATH of its own.

Texts of all layers write `pilvi COMMAND`, with `sudo` before it where root is needed; what is shown to a person goes through here.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

__all__ = ["as_typed"]

_SUDO_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def as_typed(text: str) -> str:
    """The text with every `pilvi COMMAND` as this program was called; without `sudo` for whoever is root without it."""
    from pilvi.cli.main import COMMANDS

    has_sudo = os.geteuid() != 0 or "SUDO_UID" in os.environ
    command = rf"(?<![\w/.-])(sudo )?pilvi (?=(?:{'|'.join(COMMANDS)})\b)"
    text = re.sub(command, lambda found: f"{found[1] or ''}{_program(_SUDO_PATH if found[1] and has_sudo else None)} ", text)
    return text if has_sudo else re.sub(r"(?<![\w/.-])sudo ", "", text)


def _program(path: str | None) -> str:
    """`pilvi` where that finds this program in `path` (None: the caller's PATH), else the words that it was called by."""
    called = sys.argv[0]
    if Path(called).name != "pilvi":  # inside another program
        return "pilvi"
    found = shutil.which("pilvi", path=path)
    return "pilvi" if found is not None and os.path.realpath(found) == os.path.realpath(called) else called
