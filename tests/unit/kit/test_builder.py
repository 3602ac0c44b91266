"""The builder as a whole, with tools that only pretend to compile."""

import asyncio
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from pilvi.errors import UserError
from pilvi.kit import builder
from pilvi.kit.builder import Builder
from pilvi.kit.manifests import FILE, address_manifests
from pilvi.kit.progress import Step
from pilvi.kit.recipe import MODULES
from pilvi.kit.store import Store
from pilvi.kit.toolchain import Go, parse_go_version
from tests.unit.kit.conftest import Toolchain
from tests.unit.kit.fakes import finish

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec:
  conversion: {strategy: Webhook, webhook: {clientConfig: {service: {path: /convert}}}}
"""


async def build(store: Store, *only: str) -> list[Step]:
    steps: list[Step] = []
    await Builder(store, steps.append).build(only or None)
    return steps


def states(steps: list[Step], artefact: str) -> list[str]:
    return list(dict.fromkeys(step.state for step in steps if step.artefact == artefact))


def leftovers(store: Store) -> list[str]:
    return sorted(path.name for path in store.root.iterdir() if path.name.startswith(".") and path.name not in {".lock", ".go"})


async def test_a_build_makes_every_program_and_link(toolchain: Toolchain, store: Store) -> None:
    steps = await build(store, "kubernetes-1.37")
    assert states(steps, "kubernetes-1.37") == ["waiting", "running", "built"]
    for name in ("kube", "etcd", "kube-proxy", "kubectl"):
        path = store.get_binary(name)
        assert path.stat().st_mode & 0o777 == 0o755
        assert path.resolve().name == ("kube" if name == "kubectl" else name)
    assert [len(toolchain.calls("list")), len(toolchain.calls("build"))] == [1, 3]
    assert all("-trimpath" in call and "version.gitVersion=v1.37.2" in call for call in toolchain.calls("build"))
    (built,) = [item for item in store.list_artefacts() if item.state == "built"]
    assert built.versions is not None
    assert built.versions["k8s.io/kubernetes"] == "v1.37.2"
    assert leftovers(store) == []


async def test_a_second_build_does_nothing(toolchain: Toolchain, store: Store) -> None:
    await build(store, "addons")
    calls = len(toolchain.calls("build"))
    assert [(step.artefact, step.state) for step in await build(store, "addons")] == [("addons", "present")]
    assert len(toolchain.calls("build")) == calls


async def test_progress_counts_compiled_packages(toolchain: Toolchain, store: Store) -> None:
    last = (await build(store, "cluster-api"))[-1]
    assert (last.state, last.packages) == ("built", 3)
    assert 0 <= last.compiled <= last.packages


async def test_manifests_wait_for_what_they_are_made_from(toolchain: Toolchain, store: Store) -> None:
    (toolchain.folder / "core/config").mkdir(parents=True)
    (toolchain.folder / "core.yaml").write_text(CRD)
    steps = await build(store, "manifests")
    order = [step.artefact for step in steps if step.state == "built"]
    assert order[-1] == "manifests"
    assert set(order) == {"manifests", "cluster-api", "kubernetes-1.37"}
    servers = {"core": "https://a", "bootstrap": "https://b"}
    (crd,) = address_manifests(store.get_artefact("manifests") / FILE, servers, b"")
    assert crd["spec"]["conversion"]["webhook"]["clientConfig"]["url"] == "https://a/convert"


async def test_a_failed_compilation_says_its_last_lines(toolchain: Toolchain, store: Store) -> None:
    toolchain.set(FAIL_PACKAGE="sigs.k8s.io/cluster-api/cmd/clusterctl")
    with pytest.raises(UserError, match=r"building cluster-api: the compiler failed; last lines:\n  x\.go:1: boom"):
        await build(store, "cluster-api")
    assert not store.is_built("cluster-api")
    assert leftovers(store) == []


async def test_what_finished_before_a_failure_stays(toolchain: Toolchain, store: Store) -> None:
    toolchain.set(FAIL_PACKAGE="sigs.k8s.io/cluster-api/cmd/clusterctl")
    await build(store, "addons")
    with pytest.raises(UserError):
        await build(store, "addons", "cluster-api")
    toolchain.set(FAIL_PACKAGE="none")
    steps = await build(store, "addons", "cluster-api")
    assert (states(steps, "addons"), states(steps, "cluster-api")[-1]) == (["present"], "built")


async def test_cancellation_leaves_nothing_half_made(toolchain: Toolchain, store: Store) -> None:
    toolchain.set(HANG="yes")
    task = asyncio.create_task(build(store, "addons"))
    async with asyncio.timeout(20):
        while not toolchain.calls("build"):  # noqa: ASYNC110  # another process writes the file
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert leftovers(store) == []
    assert not store.is_built("addons")
    with store.locked():  # the lock is free
        pass


async def test_leftovers_of_a_killed_build_are_cleared(toolchain: Toolchain, store: Store) -> None:
    (store.root / ".build-addons/bin").mkdir(parents=True)
    await build(store, "addons")
    assert leftovers(store) == []


async def test_caches_go_when_everything_is_built(toolchain: Toolchain, store: Store) -> None:
    await build(store, "machine")
    (store.root / ".go").mkdir()
    for name in store.keys:
        if name not in {"machine", "addons"}:
            finish(store, name)
    await build(store, "addons")
    assert not (store.root / ".go").exists()


async def test_caches_stay_while_something_is_missing(toolchain: Toolchain, store: Store) -> None:
    (store.root / ".go").mkdir(parents=True)
    await build(store, "addons")
    assert (store.root / ".go").exists()


async def test_sources_that_change_meanwhile_are_not_taken_for_the_old(toolchain: Toolchain, tmp_path: Path) -> None:
    shutil.copytree(MODULES, tmp_path / "modules")
    store = Store(tmp_path / "kit", tmp_path / "modules")
    assert store.keys
    (tmp_path / "modules/node/node-init/added.go").write_text("package main\n")
    with pytest.raises(UserError, match=r"building machine: the sources in .*/modules/node changed meanwhile"):
        await build(store, "machine")
    assert not store.is_built("machine")


async def test_two_builds_at_once_are_refused(toolchain: Toolchain, store: Store) -> None:
    with store.locked(), pytest.raises(UserError, match="another pilvi command is at work"):
        await build(store, "addons")


async def test_an_unknown_part_lists_the_known(toolchain: Toolchain, store: Store) -> None:
    with pytest.raises(UserError, match="no part called kubernets") as caught:
        await build(store, "kubernets")
    assert "kubernetes-1.37, cluster-api" in str(caught.value.hint)


async def test_missing_compilers_are_named_as_debian_packages(toolchain: Toolchain, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gcc", "pkg-config"):
        (toolchain.folder / "bin" / name).unlink()
    monkeypatch.setenv("PATH", str(toolchain.folder / "bin"))
    with pytest.raises(UserError, match="needs gcc, libc6-dev, libseccomp-dev, pkg-config") as caught:
        await build(store, "node")
    assert caught.value.hint == "run `apt-get install gcc libc6-dev libseccomp-dev pkg-config`"


async def test_missing_headers_are_named(toolchain: Toolchain, store: Store) -> None:
    toolchain.add("gcc", '#!/bin/sh\ncase "$1" in *libseccomp.a) echo libseccomp.a ;; *) echo "/usr/lib/${1#*=}" ;; esac\n')
    with pytest.raises(UserError, match=r"building the kit needs libseccomp-dev$"):
        await build(store, "node")


async def test_too_little_disk_is_found_first(toolchain: Toolchain, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 700 * 1024**2))
    with pytest.raises(UserError, match=r"has 700 MB free, and building kubernetes-1\.37 takes up to \d+ MB"):
        await build(store, "kubernetes-1.37")
    assert toolchain.calls("build") == []
    monkeypatch.setenv("GOCACHE", str(toolchain.folder / "cache"))  # what is compiled already lies elsewhere
    await build(store, "kubernetes-1.37")


async def test_an_old_go_without_a_way_to_another(toolchain: Toolchain, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    toolchain.set(FAKE_GO_VERSION="go1.25.9")
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(UserError, match=r"Go 1\.26\.0 or newer is needed \(.*/bin/go is go1\.25\.9\) and could not be installed") as caught:
        await build(store, "addons")
    assert "python3-venv" in str(caught.value.hint)
    assert leftovers(store) == []


async def test_parallel_only_as_far_as_memory_allows(toolchain: Toolchain, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "read_available_mb", lambda: 1000)
    running: set[str] = set()
    most = 0

    def see(step: Step) -> None:
        nonlocal most
        (running.add if step.state == "running" else running.discard)(step.artefact)
        most = max(most, len(running))

    await Builder(store, see).build(["addons", "cluster-api"])
    assert most == 1


@pytest.mark.parametrize(
    ("text", "version"),
    [("go1.26.8", (1, 26, 8)), ("go1.27rc1", (1, 27)), ("go1.26.8 X:nocoverageredesign", (1, 26, 8)), ("devel", ()), ("", ())],
)
def test_go_versions(text: str, version: tuple[int, ...]) -> None:
    assert parse_go_version(text) == version


def test_nothing_of_the_callers_go_settings_decides_what_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOFLAGS", "GOOS", "GOENV", "GOEXPERIMENT", "CGO_CFLAGS", "GOTOOLCHAIN", "GOPROXY", "https_proxy"):
        monkeypatch.setenv(name, "mine")
    go = Go(Path("/go"), "go1.26.8", Path("/cache/build"), Path("/cache/mod"))
    environment = go.environment(cgo=False)
    assert {name for name, value in environment.items() if value == "mine"} == {"GOPROXY", "https_proxy"}
    assert environment["GOTOOLCHAIN"] == "local"
    assert "-mod=readonly" in environment["GOFLAGS"]
