import shutil
import subprocess
from pathlib import Path

import pytest

from pilvi.errors import Bug, UserError
from pilvi.kit.recipe import MODULES
from pilvi.kit.store import DEFAULT_ROOT, Store
from tests.unit.kit.fakes import finish
from tests.unit.kit.test_recipe import add_minor


@pytest.fixture
def two_minors(tmp_path: Path) -> Store:
    shutil.copytree(MODULES, tmp_path / "modules")
    add_minor(tmp_path / "modules", "1.36", "v1.36.3")
    return Store(tmp_path / "kit", tmp_path / "modules")


def test_place_is_pilvi_cache_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILVI_CACHE", "/elsewhere")
    assert Store().root == Path("/elsewhere")
    monkeypatch.delenv("PILVI_CACHE")
    assert Store().root == DEFAULT_ROOT


def test_versions_come_from_the_sources_newest_last(two_minors: Store) -> None:
    assert two_minors.kubernetes_versions() == ["v1.36.3", "v1.37.2"]


def test_binaries_of_the_asked_version_and_of_the_newest(two_minors: Store) -> None:
    for name in ("kubernetes-1.36", "kubernetes-1.37", "node"):
        finish(two_minors, name)
    assert two_minors.get_binary("kubeadm", "1.36.3") == two_minors.path("kubernetes-1.36") / "bin/kubeadm"
    assert two_minors.get_binary("kubeadm", "v1.36.3") == two_minors.path("kubernetes-1.36") / "bin/kubeadm"
    assert two_minors.get_binary("etcd") == two_minors.path("kubernetes-1.37") / "bin/etcd"
    assert two_minors.get_binary("runc", "v1.36.3") == two_minors.path("node") / "bin/runc"


def kubernetes(version: str) -> dict[str, str]:
    return {"k8s.io/kubernetes": version}


def test_without_a_version_the_newest_that_is_built_is_taken(two_minors: Store) -> None:
    finish(two_minors, "kubernetes-1.36")
    assert two_minors.get_binary("kubectl") == two_minors.path("kubernetes-1.36") / "bin/kubectl"


def test_a_minor_that_comes_later_is_there_once_it_is_built(store: Store, tmp_path: Path) -> None:
    """A running engine has its store from its start on."""
    shutil.copytree(MODULES, tmp_path / "modules")
    running = Store(store.root, tmp_path / "modules")
    finish(running, "kubernetes-1.37")
    assert running.built_versions() == ["v1.37.2"]
    (tmp_path / "modules" / "kubernetes-1.39").mkdir()  # a copy that has just begun
    add_minor(tmp_path / "modules", "1.38", "v1.38.0")
    assert running.built_versions() == ["v1.37.2"]
    with pytest.raises(UserError, match="not in the kit"):
        running.get_binary("kubelet", "v1.38.0")
    builder = Store(store.root, tmp_path / "modules")
    shutil.rmtree(tmp_path / "modules" / "kubernetes-1.39")
    made = finish(builder, "kubernetes-1.38", versions=kubernetes("v1.38.0"))
    assert running.built_versions() == ["v1.37.2", "v1.38.0"]
    assert running.get_binary("kubelet", "1.38.0") == made / "bin/kubelet"


def test_another_patch_in_the_sources_does_not_touch_who_runs(store: Store, tmp_path: Path) -> None:
    """Sources of a newer pilvi lie there before its engine is started."""
    shutil.copytree(MODULES, tmp_path / "modules")
    running = Store(store.root, tmp_path / "modules")
    old = finish(running, "kubernetes-1.37", versions=kubernetes("v1.37.2"))
    go_mod = tmp_path / "modules/kubernetes-1.37/go.mod"
    go_mod.write_text(go_mod.read_text().replace("k8s.io/kubernetes v1.37.2", "k8s.io/kubernetes v1.37.3"))
    assert running.built_versions() == ["v1.37.2"]
    newer = Store(store.root, tmp_path / "modules")
    assert newer.built_versions() == []
    finish(newer, "kubernetes-1.37", versions=kubernetes("v1.37.3"))
    assert running.built_versions() == ["v1.37.2"]
    assert newer.built_versions() == ["v1.37.3"]
    # And what the old one has built serves the control planes of its time.
    assert newer.get_binary("etcd", "v1.37.2") == old / "bin/etcd"
    assert newer.find_kubernetes("v1.37.1") is None
    (old / "artefact.json").write_text("{")
    assert newer.find_kubernetes("v1.37.2") is None


def test_a_binary_runs_for_every_user(store: Store) -> None:
    finish(store, "kubernetes-1.37")
    store.root.chmod(0o755)
    path = store.get_binary("kubectl")
    assert path.stat().st_mode & 0o777 == 0o755
    assert {parent.stat().st_mode & 0o777 for parent in (path.parent, path.parent.parent)} == {0o755}
    assert subprocess.run([path], capture_output=True, text=True, check=True).stdout.strip() == "kubernetes-1.37 kube"


def test_an_unknown_version_lists_the_known(two_minors: Store) -> None:
    with pytest.raises(UserError, match=r"version v1\.35\.0 is not in the kit, which has: v1\.36\.3, v1\.37\.2"):
        two_minors.get_binary("kubeadm", "v1.35.0")


def test_a_missing_binary_says_what_to_do(store: Store) -> None:
    with pytest.raises(UserError, match=r"part kubernetes-1\.37 is not built") as caught:
        store.get_binary("kubeadm")
    assert "pilvi kit build" in str(caught.value.hint)


def test_an_unknown_binary_is_a_bug(store: Store) -> None:
    with pytest.raises(Bug, match="no module of the kit builds a binary called kubectx"):
        store.get_binary("kubectx")


def test_other_sources_are_another_artefact(two_minors: Store) -> None:
    old = finish(two_minors, "node")
    with (two_minors.modules / "node/go.sum").open("a") as file:
        file.write("more\n")
    changed = Store(two_minors.root, two_minors.modules)
    with pytest.raises(UserError, match="part node is not built"):
        changed.get_binary("runc")
    assert [(item.state, item.path) for item in changed.list_artefacts() if item.name == "node"] == [
        ("missing", changed.path("node")),
        ("stale", old),
    ]
    # Images hold the pause program of the node module; manifests have nothing of it.
    assert changed.keys["images-1.37"] != two_minors.keys["images-1.37"]
    assert changed.keys["manifests"] == two_minors.keys["manifests"]


def test_list_tells_sizes_and_versions(store: Store) -> None:
    folder = finish(store, "addons")
    (built,) = [item for item in store.list_artefacts() if item.state == "built"]
    assert (built.name, built.key, built.path) == ("addons", store.keys["addons"], folder)
    assert built.size_bytes == sum(path.stat().st_size for path in (folder / "bin/coredns", folder / "plain.txt"))
    assert built.versions == {"example.org/x": "v1"}


def test_useless_is_not_what_is_used_and_what_is_not_the_kits(two_minors: Store) -> None:
    kept = finish(two_minors, "addons")
    stale = finish(two_minors, "node")
    foreign = two_minors.root / "node-image-1.37-aaaa"
    foreign.mkdir()
    for name in (".build-node", ".import-archive", ".go/mod", ".toolchain"):
        (two_minors.root / name).mkdir(parents=True)
    with (two_minors.modules / "node/go.sum").open("a") as file:
        file.write("more\n")
    changed = Store(two_minors.root, two_minors.modules)
    useless = changed.find_useless()
    assert {path.name for path in useless} == {stale.name, ".build-node", ".import-archive", ".go", ".toolchain"}
    changed.remove(useless)
    assert sorted(two_minors.root.iterdir()) == sorted([two_minors.root / ".lock", kept, foreign])


def test_what_is_removed_by_half_is_no_artefact(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = finish(store, "kubernetes-1.37", versions=kubernetes("v1.37.2"))

    def fail(path: Path) -> None:
        if path.exists():
            raise OSError("killed here")

    with monkeypatch.context() as patched:
        patched.setattr("pilvi.kit.store.remove_tree", fail)
        with pytest.raises(OSError, match="killed"):
            store.remove([folder])
    assert store.built_versions() == []
    assert store.find_kubernetes("v1.37.2") is None
    store.remove(store.find_useless())
    assert [path.name for path in store.root.iterdir()] == [".lock"]


def test_two_commands_at_once_are_refused(store: Store) -> None:
    with store.locked(), pytest.raises(UserError, match="another pilvi command is at work"), store.locked():
        pass
    with store.locked():  # and the lock is free again
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"kit's folder .*/file/kit cannot be written"), Store(tmp_path / "file/kit").locked():
        pass
