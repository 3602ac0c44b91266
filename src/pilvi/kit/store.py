"""Where finished artefacts lie, and how one finds a binary in them.

    <root>/<name>-<key>/bin/…        a finished artefact, never changed
    <root>/.lock                     held while something is built, imported or removed
    <root>/.build-…, .import-…       unfinished; removed by the next command that holds the lock
    <root>/.go, .toolchain           Go's caches and Go itself, while artefacts are missing

`<root>` is `PILVI_CACHE` or /var/cache/pilvi/kit. It belongs to root and everybody may read it: units run as users of their own.
Reading needs no lock. Names and keys come from the module folders of this pilvi, so an artefact of other sources is not found.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pilvi.errors import Bug, UserError
from pilvi.kit.artefact import METADATA, read_artefact
from pilvi.kit.modules import compute_key, get_version
from pilvi.kit.recipe import MODULES, Recipe, find_recipes
from pilvi.lib.files import remove_tree
from pilvi.lib.versions import normalize

__all__ = ["BUILD_HINT", "DEFAULT_ROOT", "Listed", "Store"]

DEFAULT_ROOT = Path("/var/cache/pilvi/kit")
BUILD_HINT = "run `pilvi kit build` (about ten minutes the first time), or `pilvi kit import FILE` with an archive made elsewhere"

# Part of the keys of what is made from other artefacts by Python; raised when the code that makes them changes the result.
MANIFESTS_FORMAT = 1
IMAGES_FORMAT = 2

_MINOR = "kubernetes-"
_KUBERNETES = "k8s.io/kubernetes"


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of `pilvi kit list`. `stale`: on disk, but of no use to this pilvi. Sizes in bytes, 0 when missing."""

    name: str
    key: str
    state: Literal["built", "missing", "stale"]
    path: Path
    size_bytes: int = 0
    versions: dict[str, str] | None = None


class Store:
    """The kit's folder, and the artefacts that this pilvi wants in it."""

    def __init__(self, root: Path | None = None, modules: Path = MODULES) -> None:
        self.root = root or Path(os.environ.get("PILVI_CACHE") or DEFAULT_ROOT)
        self.modules = modules

    @functools.cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Recipes by name."""
        return {recipe.name: recipe for recipe in find_recipes(self.modules)}

    @functools.cached_property
    def keys(self) -> dict[str, str]:
        """Every artefact that this pilvi uses, by name, with its key; an artefact stands after those it is made from."""
        keys = {name: compute_key(recipe) for name, recipe in self.recipes.items()}
        keys["manifests"] = _derive(MANIFESTS_FORMAT, keys["cluster-api"])
        for minor in self._minors:
            keys[f"images-{minor}"] = _derive(IMAGES_FORMAT, *(keys[name] for name in (f"kubernetes-{minor}", "node", "addons")))
        return keys

    @functools.cached_property
    def _minors(self) -> dict[str, str]:
        """Kubernetes minors with their version, oldest first."""
        names = [name for name in self.recipes if name.startswith(_MINOR)]
        return {name.removeprefix(_MINOR): get_version(self.recipes[name].folder, _KUBERNETES) for name in reversed(names)}

    def kubernetes_versions(self) -> list[str]:
        """Kubernetes versions that the kit's sources pin, as `v1.37.2`, newest last. Needs no build."""
        return list(self._minors.values())

    def built_versions(self) -> list[str]:
        """Those of them that are built, and minors that came to the sources since they were read first, once they are built.

        So a running engine takes in a minor that was added. What it has read before stays as it is: sources of another pilvi may be
        put in their place before that one is started.
        """
        minors = {**_read_minors(self.modules, self._minors), **self._minors}
        newest_last = sorted(minors, key=lambda minor: [int(number) for number in minor.split(".")])
        return [minors[minor] for minor in newest_last if self.find_kubernetes(minors[minor]) is not None]

    def find_kubernetes(self, version: str) -> Path | None:
        """The folder of a finished artefact with this Kubernetes version (with or without `v`), or None.

        That of this pilvi, else one that another pilvi has built here: a control plane outlives the pilvi that made it.
        """
        wanted = normalize(version)
        for minor, known in self._minors.items():
            if known == wanted and self.is_built(f"kubernetes-{minor}"):
                return self.path(f"kubernetes-{minor}")
        minor = wanted.removeprefix("v").rpartition(".")[0]
        found = sorted(self.root.glob(f"{_MINOR}{minor}-*/{METADATA}"), key=lambda path: path.stat().st_mtime, reverse=True)
        return next((path.parent for path in found if _find_kubernetes_in(path.parent) == wanted), None)

    def resolve_minor(self, kubernetes: str | None) -> str:
        """The minor, as `1.37`, of a version with or without `v`; of the newest for None. Raises UserError listing the known versions."""
        if kubernetes is None:
            return list(self._minors)[-1]
        for minor, version in self._minors.items():
            if kubernetes.removeprefix("v") == version.removeprefix("v"):
                return minor
        known = ", ".join(self.kubernetes_versions())
        raise UserError(
            f"Kubernetes version {kubernetes} is not in the kit, which has: {known}", hint=f"use {self.kubernetes_versions()[-1]}"
        )

    def path(self, name: str) -> Path:
        """Where the artefact lies when it is finished."""
        return self.root / f"{name}-{self.keys[name]}"

    def is_built(self, name: str) -> bool:
        """Whether the artefact is finished."""
        return self.path(name).is_dir()

    def get_artefact(self, name: str) -> Path:
        """The folder of a finished artefact. Raises UserError when it is not built."""
        path = self.path(name)
        if not path.is_dir():
            raise UserError(f"the kit's part {name} is not built: there is no {path}", hint=BUILD_HINT)
        return path

    def get_binary(self, name: str, kubernetes: str | None = None) -> Path:
        """Path of a binary, absolute and executable by every user.

        `kubernetes` chooses among the versions for what comes with Kubernetes and is ignored for the rest; None is the newest that is
        built. Raises UserError when the version is unknown or its artefact is not built.
        """
        recipe = next((recipe for recipe in self.recipes.values() if name in recipe.names()), None)
        if recipe is None:
            raise Bug(f"no module of the kit builds a binary called {name}")
        if not recipe.name.startswith(_MINOR):
            return self.get_artefact(recipe.name) / "bin" / name
        version = kubernetes or next(reversed(self.built_versions()), None)
        folder = self.find_kubernetes(version) if version else None
        return (folder or self.get_artefact(f"{_MINOR}{self.resolve_minor(version)}")) / "bin" / name

    def list_artefacts(self) -> list[Listed]:
        """What is wanted, built or missing, and then what is stale."""
        listed = []
        for name, key in self.keys.items():
            if self.is_built(name):
                artefact = read_artefact(self.path(name))
                listed.append(Listed(name, key, "built", self.path(name), artefact.size_bytes, artefact.versions))
            else:
                listed.append(Listed(name, key, "missing", self.path(name)))
        for path in self._stale():
            artefact = read_artefact(path)
            listed.append(Listed(artefact.name, artefact.key, "stale", path, artefact.size_bytes, artefact.versions))
        return listed

    def find_useless(self) -> list[Path]:
        """Stale artefacts, leftovers of interrupted commands, Go's caches and the Go that was installed here."""
        if not self.root.is_dir():
            return []
        return [*self._stale(), *sorted(path for path in self.root.glob(".*") if not path.name.endswith(".lock"))]

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove what lies in the kit's folder. Blocks. Raises UserError when another command is at work.

        Each is renamed first: one that is removed by half is never taken for a whole one.
        """
        with self.locked():
            for path in paths:
                doomed = self.root / f".removed-{path.name.lstrip('.')}"
                remove_tree(doomed)
                if os.path.lexists(path):
                    path.rename(doomed)
                    remove_tree(doomed)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and hold its lock, which also clears what an interrupted command left. Never waits.

        Raises UserError when another command holds the lock or the folder cannot be made.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o755)
            fd = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as e:
            raise UserError(
                f"the kit's folder {self.root} cannot be written", hint="run as root, or set PILVI_CACHE to another folder"
            ) from e
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another pilvi command is at work in {self.root}", hint="wait until it has finished") from None
            for path in (*self.root.glob(".build-*"), *self.root.glob(".import-*")):
                remove_tree(path)
            yield
        finally:
            os.close(fd)

    def _stale(self) -> list[Path]:
        """Artefacts that this pilvi has no use for. Other folders are not the kit's."""
        if not self.root.is_dir():
            return []
        wanted = {self.path(name) for name in self.keys}
        return [path.parent for path in sorted(self.root.glob(f"[!.]*/{METADATA}")) if path.parent not in wanted]


def _read_minors(modules: Path, known: Container[str]) -> dict[str, str]:
    """Minors that are not known yet, with their version. A folder that is only half there is left for the next time."""
    found = {}
    for recipe in find_recipes(modules):
        minor = recipe.name.removeprefix(_MINOR)
        if minor != recipe.name and minor not in known:
            with suppress(OSError, Bug):
                found[minor] = get_version(recipe.folder, _KUBERNETES)
    return found


def _find_kubernetes_in(folder: Path) -> str | None:
    """The Kubernetes version of an artefact; None as well for one that is damaged, which nobody should start."""
    with suppress(UserError):
        return read_artefact(folder).versions.get(_KUBERNETES)
    return None


def _derive(number: int, *keys: str) -> str:
    return hashlib.sha256(" ".join([str(number), *keys]).encode()).hexdigest()[:12]
