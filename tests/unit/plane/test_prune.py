"""What of the kit is needed by whom, and that only the rest goes."""

from __future__ import annotations

import json
import os
import subprocess
from ipaddress import IPv4Network
from pathlib import Path

import msgspec
import pytest

from pilvi import kit
from pilvi.errors import UserError
from pilvi.host.cloud import Cloud, create_cloud, list_clouds, save_cloud
from pilvi.host.locks import take_lock
from pilvi.host.units import UnitSpec
from pilvi.host.units.identity import Identity
from pilvi.host.units.record import Record, save_record
from pilvi.kit.store import Store
from pilvi.plane import prune as module
from pilvi.plane.prune import find_users, measure, plan_prune, prune
from tests.unit.kit.fakes import finish


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The kit of this pilvi, with one part built."""
    made = Store(tmp_path / "kit")
    monkeypatch.setenv("PILVI_CACHE", str(made.root))
    finish(made, "addons")
    return made


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The one cloud of this host; it is stopped."""
    host_file = tmp_path / "host.json"
    made = create_cloud(tmp_path / "home", IPv4Network("10.250.7.0/24"), host_file=host_file, run_root=tmp_path / "run")
    monkeypatch.setattr(module, "list_clouds", lambda: list_clouds(host_file))
    return made


def old_part(store: Store, name: str, kubernetes: str = "") -> Path:
    """A part that another pilvi has built."""
    folder = store.root / f"{name}-0123456789ab"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "program").write_text("x" * 8192)
    metadata = {"name": name, "key": "0123456789ab", "machine": "x86_64", "versions": {"k8s.io/kubernetes": kubernetes}}
    (folder / "artefact.json").write_text(json.dumps(metadata))
    return folder


def old_image(store: Store, version: str) -> Path:
    folder = store.root / f"node-image-{version}-0123456789ab"
    (folder / "root").mkdir(parents=True)
    (folder / "image.json").write_text(json.dumps({"version": version, "pause": "pause"}))
    return folder


def names(paths: object) -> set[str]:
    return {path.name for path in paths}  # type: ignore[attr-defined]


def test_what_nobody_uses_goes_and_nothing_else(store: Store, cloud: Cloud) -> None:
    useless = {old_part(store, "node"), old_image(store, "v1.36.0"), store.root / ".go"}
    (store.root / ".go").mkdir()
    before = set(store.root.iterdir()) - useless
    plan = plan_prune()
    assert set(plan.doomed) == useless
    assert plan.kept == {}
    prune(plan)
    assert {path for path in store.root.iterdir() if not path.name.endswith(".lock")} == before
    assert plan_prune().doomed == ()


def test_programs_of_units_stay(store: Store, cloud: Cloud) -> None:
    part = old_part(store, "machine")
    spec = UnitSpec(name="m-1", argv=(str(part / "bin/program"), "x"), log_path=Path("/x"))
    cloud.units_dir.mkdir(parents=True)
    save_record(cloud.units_dir, Record(spec=spec, digest="d", process=Identity("boot", 1, 1), started_at=0))
    assert plan_prune().kept == {part: f"cloud {cloud.id} in {cloud.home}"}


def test_roots_of_machines_stay(store: Store, cloud: Cloud) -> None:
    image, other = old_image(store, "v1.36.0"), old_image(store, "v1.35.0")
    state = cloud.home / "machines/uid/state"
    state.mkdir(parents=True)
    (state / "sandbox.json").write_text(json.dumps({"root": str(image / "root")}))
    plan = plan_prune()
    assert (set(plan.kept), set(plan.doomed)) == ({image}, {other})


def test_versions_of_control_planes_stay_also_of_a_stopped_cloud(store: Store, cloud: Cloud) -> None:
    folder = cloud.home / "control-planes/cp-1"
    folder.mkdir(parents=True)
    (folder / "version").write_text("v1.36.0\n")
    save_cloud(msgspec.structs.replace(cloud, kubernetes="v1.35.0"))
    tenant = {old_part(store, "kubernetes-1.36", "v1.36.0"), old_image(store, "v1.36.0")}
    platform = old_part(store, "kubernetes-1.35", "v1.35.0")
    unused = old_part(store, "kubernetes-1.34", "v1.34.0")
    plan = plan_prune()
    assert set(plan.kept) == {*tenant, platform}
    assert plan.doomed == (unused,)


def test_what_has_found_a_user_meanwhile_stays(store: Store, cloud: Cloud) -> None:
    image = old_image(store, "v1.36.0")
    plan = plan_prune()
    state = cloud.home / "machines/uid/state"
    state.mkdir(parents=True)
    (state / "sandbox.json").write_text(json.dumps({"root": str(image / "root")}))
    prune(plan)
    assert image.exists()


def test_a_program_that_runs_stays_whoever_started_it(tmp_path: Path) -> None:
    program = tmp_path / "node-0123/bin/sleep"
    program.parent.mkdir(parents=True)
    program.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    program.chmod(0o755)
    with subprocess.Popen([program, "60"]) as process:
        try:
            assert find_users(tmp_path, []) == {tmp_path / "node-0123": f"process {process.pid}"}
        finally:
            process.kill()
    assert find_users(tmp_path, []) == {}


def test_nothing_goes_while_a_node_image_is_built(store: Store, cloud: Cloud) -> None:
    unfinished = store.root / ".node-image-v1.37.2-aa.new"
    unfinished.mkdir()
    plan = plan_prune()
    lock = take_lock(kit.get_folder() / ".node-images.lock")
    with pytest.raises(UserError, match="builds node images"):
        prune(plan)
    os.close(lock)
    assert unfinished.exists()
    prune(plan)
    assert not unfinished.exists()


def test_only_what_has_no_other_link_is_freed(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    (one / "program").write_bytes(b"x" * 40_000)
    os.link(one / "program", two / "program")
    (two / "link").symlink_to(one)
    assert measure([one]) == 0
    assert measure([two]) == (two / "link").lstat().st_blocks * 512
    assert measure([one, two]) >= 40_000
