"""Compiles the programs of one recipe. Everything is linked statically, without symbol tables and without paths of this machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from pilvi.errors import DriverError, UserError
from pilvi.kit.modules import linker_flags, read_requirements
from pilvi.kit.progress import Report
from pilvi.kit.recipe import Program, Recipe
from pilvi.kit.toolchain import Go
from pilvi.lib.run import run

__all__ = ["compile_recipe", "explain_failure", "find_module"]

_COMPILE_TIMEOUT_S = 3600
_FETCH_TIMEOUT_S = 1800

# What Go or gcc prints -> what it means to a person, and the next step. The first that matches decides.
_FAILURES = (
    (r"No space left on device|no space left on device", "the disk is full", "free some space and run `pilvi kit build` again"),
    (
        r"signal: killed|Cannot allocate memory|cannot allocate memory",
        "memory ran out",
        "free memory and run `pilvi kit build` again: it goes on where it was",
    ),
    (
        r"checksum mismatch|SECURITY ERROR",
        "a module has another content than go.sum says",
        "check the module proxy; nothing of it was used",
    ),
    (r"missing go.sum entry|updates to go.mod needed", "go.mod and go.sum do not fit together", "run `go mod tidy` in the module folder"),
    (
        r"dial tcp|no such host|i/o timeout|connection refused|TLS handshake|unexpected EOF|proxyconnect|: 40[34] |: 50\d ",
        "a Go module cannot be fetched",
        "check the network and GOPROXY, and run `pilvi kit build` again: what was fetched is kept",
    ),
)


async def compile_recipe(recipe: Recipe, folder: Path, go: Go, report: Report) -> dict[str, str]:
    """Put the recipe's programs and links into `folder/bin`; returns the versions of the modules that its programs come from.

    Raises UserError with the last lines of the compiler when it fails.
    """
    binaries, temporary = folder / "bin", folder / "tmp"
    binaries.mkdir()
    temporary.mkdir()
    try:
        report.doing = "fetching modules"
        report.packages = await _count_packages(recipe, go)
        compiled = 0
        for program in recipe.programs:
            report.doing = f"compiling {program.name}"
            report.count = _counter(temporary, compiled)
            await _compile(recipe, program, binaries / program.name, go, temporary)
            compiled = report.count()
    except DriverError as e:
        raise explain_failure(recipe.name, e) from e
    for name, target in recipe.links.items():
        (binaries / name).symlink_to(target)
    temporary.rmdir()
    return _program_versions(recipe)


async def find_module(recipe: Recipe, module: str, go: Go) -> Path:
    """The folder of a module's sources, fetched when it is not in Go's cache. Raises UserError."""
    try:
        argv: list[str | Path] = [go.binary, "mod", "download", "-json", module]
        answer = (await run(argv, env=go.environment(cgo=False), cwd=recipe.folder, timeout_s=_FETCH_TIMEOUT_S)).stdout
    except DriverError as e:
        raise explain_failure(recipe.name, e) from e
    return Path(msgspec.json.decode(answer)["Dir"])


def explain_failure(name: str, error: DriverError) -> UserError:
    """What a failed command means to a person, with its last lines."""
    lines = [line for line in error.stderr.splitlines() if line.strip() and not line.startswith("go: downloading ")]
    tail = "\n  ".join(lines[-8:])
    meaning, hint = "the compiler failed", "look at the lines above"
    for pattern, found, next_step in _FAILURES:
        if re.search(pattern, error.stderr):
            meaning, hint = found, next_step
            break
    return UserError(f"building {name}: {meaning}; last lines:\n  {tail}" if tail else f"building {name}: {meaning}: {error}", hint=hint)


async def _count_packages(recipe: Recipe, go: Go) -> int:
    """How many packages the Go programs are made of. As a side effect all their modules are fetched."""
    packages = [program.package for program in recipe.programs if not program.package.endswith(".c")]
    argv: list[str | Path] = [go.binary, "list", "-deps", "-f", "{{.ImportPath}}", *packages]
    return len((await run(argv, env=go.environment(cgo=False), cwd=recipe.folder, timeout_s=_FETCH_TIMEOUT_S)).stdout.split())


def _counter(temporary: Path, before: int) -> Callable[[], int]:
    """Counts compiled packages: Go makes one folder below its work folder for each package that it compiles."""
    most = before

    def count() -> int:
        nonlocal most
        most = max(most, before + sum(1 for _ in temporary.glob("go-build*/b*")))
        return most

    return count


async def _compile(recipe: Recipe, program: Program, output: Path, go: Go, temporary: Path) -> None:
    if program.package.endswith(".c"):
        flags = ["-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror", "-Wl,--build-id=none"]
        await run(["gcc", *flags, "-o", output, program.package], cwd=recipe.folder, timeout_s=_COMPILE_TIMEOUT_S)
        return
    linker = linker_flags(recipe) + (" -linkmode external -extldflags -static" if program.cgo else "")
    argv: list[str | Path] = [go.binary, "build", "-trimpath", "-buildvcs=false", "-ldflags", linker, "-o", output]
    argv += ["-tags", ",".join(program.tags), program.package] if program.tags else [program.package]
    environment = go.environment(cgo=program.cgo, temporary=temporary)
    await run(argv, env=environment, cwd=recipe.folder, timeout_s=_COMPILE_TIMEOUT_S)


def _program_versions(recipe: Recipe) -> dict[str, str]:
    """Module path -> version, for each module that a program's package lies in, or whose version is stamped into ours."""
    packages = [program.package for program in recipe.programs]
    stamped = set(recipe.stamps.values())
    required = read_requirements(recipe.folder)
    return {
        module: version
        for module, version in required.items()
        if f"{{{module}}}" in stamped or any(package == module or package.startswith(f"{module}/") for package in packages)
    }
