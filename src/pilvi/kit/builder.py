"""Builds what the kit lacks: programs by Go and gcc, then manifests and images out of them.

Each artefact is built in a folder `.build-…` beside its place and renamed when it is whole, so an interrupted build goes on where it
was. Artefacts are built side by side as far as memory allows; one that is made from others waits for them.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pilvi.errors import Bug, PilviError, UserError
from pilvi.kit import compiler, images, manifests
from pilvi.kit.artefact import Artefact, seal
from pilvi.kit.memory import MemoryBudget, read_available_mb
from pilvi.kit.modules import compute_key, get_version, go_version
from pilvi.kit.progress import Progress, Report, Step
from pilvi.kit.store import Store
from pilvi.kit.toolchain import Go, find_missing_packages, get_go
from pilvi.lib.files import remove_tree, write_atomic
from pilvi.lib.run import run

__all__ = ["Builder"]

_CAPI = "sigs.k8s.io/cluster-api"
_SMALL_MB = 300


class Builder:
    """One run of `pilvi kit build` in `store`. `progress` may be None; it is called in the event loop and must return at once."""

    def __init__(self, store: Store, progress: Progress | None = None) -> None:
        self._store = store
        self._progress = progress or (lambda step: None)
        self._finished = {name: asyncio.Event() for name in store.keys}

    async def build(self, only: Sequence[str] | None = None) -> None:
        """Build what is missing of `only` (default: all) and of what that is made from.

        Raises UserError when something is not there that the build needs, or a compilation fails; what finished stays.
        """
        wanted = self._with_inputs(list(self._store.keys) if only is None else only)
        missing = [name for name in wanted if not self._store.is_built(name)]
        for name in wanted:
            if name not in missing:
                self._finished[name].set()
                self._progress(Step(artefact=name, state="present"))
        if not missing:
            return
        with self._store.locked():
            await self._check_machine(missing)
            go = await self._get_go(missing)
            budget = MemoryBudget(read_available_mb(), most=os.cpu_count() or 1)
            try:
                async with asyncio.TaskGroup() as group:
                    for name in missing:
                        group.create_task(self._build_one(name, go, budget))
            except BaseExceptionGroup as failures:
                if len(failures.exceptions) == 1:
                    raise failures.exceptions[0] from None
                raise
            if all(self._store.is_built(name) for name in self._store.keys):
                for path in (self._store.root / ".go", self._store.root / ".toolchain"):
                    await asyncio.to_thread(remove_tree, path)  # gigabytes that only a further build would use

    def _with_inputs(self, names: Sequence[str]) -> list[str]:
        for name in names:
            if name not in self._store.keys:
                raise UserError(f"the kit has no part called {name}", hint=f"it has: {', '.join(self._store.keys)}")
        wanted = {*names, *(source for name in names for source in self._inputs(name))}
        return [name for name in self._store.keys if name in wanted]

    def _inputs(self, name: str) -> list[str]:
        """Names of the artefacts that this one is made from."""
        if name == "manifests":
            return ["cluster-api", f"kubernetes-{self._store.resolve_minor(None)}"]
        if name.startswith("images-"):
            return [f"kubernetes-{name.removeprefix('images-')}", "node", "addons"]
        return []

    async def _check_machine(self, missing: list[str]) -> None:
        """Find out now, and not after ten minutes, that a package or disk space is missing."""
        if platform.machine() != "x86_64":
            raise UserError(f"the kit is built for x86_64 only, and this machine is {platform.machine()}")
        recipes = [self._store.recipes[name] for name in missing if name in self._store.recipes]
        debian = {package for recipe in recipes for program in recipe.programs for package in program.debian}
        if any(name.startswith("images-") for name in missing):
            debian |= set(images.DEBIAN_PACKAGES)
        if packages := await find_missing_packages(debian):
            raise UserError(f"building the kit needs {', '.join(packages)}", hint=f"run `apt-get install {' '.join(packages)}`")
        if (self._store.root / ".go").exists() or "GOCACHE" in os.environ:
            return  # much of what would be needed is there already; a full disk still gets a clear error
        needed_mb = sum(recipe.disk_mb for recipe in recipes) + _SMALL_MB
        free_mb = shutil.disk_usage(self._store.root).free // 1024**2
        if free_mb < needed_mb:
            raise UserError(
                f"{self._store.root} has {free_mb} MB free, and building {', '.join(missing)} takes up to {needed_mb} MB with Go's caches",
                hint="free some space, or set PILVI_CACHE to a folder on another disk",
            )

    async def _get_go(self, missing: list[str]) -> Go | None:
        names = [name for name in missing if name in self._store.recipes]
        if "manifests" in missing:
            names.append("cluster-api")  # its sources are asked for again
        versions = [go_version(self._store.recipes[name].folder) for name in names]
        return await get_go(self._store.root, max(versions)) if versions else None

    async def _build_one(self, name: str, go: Go | None, budget: MemoryBudget) -> None:
        self._progress(Step(artefact=name, state="waiting"))
        for source in self._inputs(name):
            await self._finished[source].wait()
        recipe = self._store.recipes.get(name)
        async with budget.hold(recipe.memory_mb if recipe else _SMALL_MB):
            report = Report(name, self._progress)
            async with report.every_second():
                try:
                    await self._make(name, go, report)
                except PilviError:
                    report.send("failed")
                    raise
                except OSError as e:
                    report.send("failed")
                    raise UserError(
                        f"building {name}: {e.strerror}: {e.filename or self._store.root}", hint="check disk space and rights"
                    ) from e
            report.send("built")
        self._finished[name].set()

    async def _make(self, name: str, go: Go | None, report: Report) -> None:
        folder = self._store.root / f".build-{name}"
        folder.mkdir()
        try:
            versions = await self._fill(name, folder, go, report)
            report.doing = "writing to disk"
            built = {"go": go.version if go else "", "seconds": f"{report.seconds:.0f}"}
            artefact = Artefact(name=name, key=self._store.keys[name], machine=platform.machine(), versions=versions, built=built)
            await asyncio.to_thread(seal, folder, artefact)
            folder.rename(self._store.path(name))
        finally:
            await asyncio.to_thread(remove_tree, folder)

    async def _fill(self, name: str, folder: Path, go: Go | None, report: Report) -> dict[str, str]:
        if name == "manifests":
            return await self._fill_manifests(folder, _present(go), report)
        if name.startswith("images-"):
            return await self._fill_images(name.removeprefix("images-"), folder, report)
        recipe = self._store.recipes[name]
        versions = await compiler.compile_recipe(recipe, folder, _present(go), report)
        if compute_key(recipe) != self._store.keys[name]:
            raise UserError(f"building {name}: the sources in {recipe.folder} changed meanwhile", hint="run `pilvi kit build` again")
        return versions

    async def _fill_manifests(self, folder: Path, go: Go, report: Report) -> dict[str, str]:
        report.doing = "rendering Cluster API's kinds"
        recipe = self._store.recipes["cluster-api"]
        source = await compiler.find_module(recipe, _CAPI, go)
        kubectl = self._store.get_binary("kubectl")
        objects = []
        for server, part in (
            ("core", "core/config/default"),
            ("bootstrap", "bootstrap/kubeadm/config/default"),
            ("", "cmd/clusterctl/config/crd"),
        ):
            rendered = (await run([kubectl, "kustomize", source / part], timeout_s=120)).stdout
            objects += manifests.select_manifests(server, await asyncio.to_thread(manifests.parse_documents, rendered))
        write_atomic(folder / manifests.FILE, msgspec.json.encode(objects))
        return {"cluster-api": get_version(recipe.folder, _CAPI)}

    async def _fill_images(self, minor: str, folder: Path, report: Report) -> dict[str, str]:
        report.doing = "writing container images"
        kubernetes = get_version(self._store.recipes[f"kubernetes-{minor}"].folder, "k8s.io/kubernetes")
        binaries = images.NodeBinaries(
            kubeadm=self._store.get_binary("kubeadm", kubernetes),
            kube_proxy=self._store.get_binary("kube-proxy", kubernetes),
            coredns=self._store.get_binary("coredns"),
            pause=self._store.get_binary("pause"),
            containerd=self._store.get_binary("containerd"),
        )
        coredns = get_version(self._store.recipes["addons"].folder, "github.com/coredns/coredns")
        return await images.build_images(folder, kubernetes, binaries, coredns)


def _present(go: Go | None) -> Go:
    if go is None:
        raise Bug("a compilation was planned without Go")
    return go
