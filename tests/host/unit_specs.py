"""Small programs as units."""

from __future__ import annotations

import sys
from pathlib import Path

from pilvi.host.cloud import Cloud
from pilvi.host.units import UnitSpec

# The real interpreter, not the environment's link to it: units have users that may not reach the checkout.
PYTHON = str(Path(sys.executable).resolve())


def script(cloud: Cloud, text: str, name: str = "u", **fields: object) -> UnitSpec:
    """A unit that runs a shell script."""
    return UnitSpec(name=name, argv=("/bin/sh", "-c", text), log_path=cloud.home / "logs" / f"{name}.log", **fields)  # type: ignore[arg-type]


def sleeper(cloud: Cloud, name: str = "u", **fields: object) -> UnitSpec:
    """A unit that does nothing until it is told to end."""
    return UnitSpec(name=name, argv=("sleep", "1000"), log_path=cloud.home / "logs" / f"{name}.log", **fields)  # type: ignore[arg-type]
