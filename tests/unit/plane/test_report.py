import json
import tarfile
from pathlib import Path

import pytest
import yaml

from pilvi.errors import UserError
from pilvi.host.checks import Finding
from pilvi.host.cloud import DEFAULT_HOME
from pilvi.host.units import UnitSpec
from pilvi.host.units.identity import Identity
from pilvi.host.units.record import Record, save_record
from pilvi.plane import report
from pilvi.plane.report import write_report
from pilvi.plane.status import EngineStatus, Status, UnitStatus
from tests.fake_api import FakeApi
from tests.unit.plane.objects import SECRET, obj
from tests.unit.plane.test_status import make_cloud


@pytest.fixture(autouse=True)
def examined(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The homes of which the host was examined, which tries out much and is tested elsewhere."""
    homes = []

    async def examine(home: Path) -> list[Finding]:
        homes.append(home)
        return [Finding("disk", True, f"0.5 GiB free at {home}", "")]

    monkeypatch.setattr(report, "examine", examine)
    return homes


async def test_the_archive_holds_objects_and_names_what_it_lacks(fake_api: FakeApi, tmp_path: Path) -> None:
    fake_api.put("/api/v1/namespaces/default/secrets/s", SECRET)
    fake_api.put("/apis", {"metadata": {"name": "apis"}, "groups": []})
    fake_api.objects["/apis"] = {"groups": [{"preferredVersion": {"groupVersion": "away.dev/v1"}}]}
    kinds = [{"name": "secrets", "kind": "Secret", "namespaced": True, "verbs": ["list", "watch"]}, {"name": "pods/log", "verbs": ["get"]}]
    fake_api.objects["/api/v1"] = {"resources": kinds}
    fake_api.faults.append(lambda request: _known(fake_api, request.path))
    path = tmp_path / "report.tar.gz"
    missing = await write_report(path, Status(cloud=_nobody(), engine=EngineStatus()), None, fake_api.kubeconfig)
    assert missing == []
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as tar:
        names = tar.getnames()
        assert {name.split("/")[0] for name in names} == {"pilvi-report"}
        member = tar.extractfile("pilvi-report/objects/secrets.yaml")
        assert member is not None
        documents = list(yaml.safe_load_all(member.read()))
    assert documents[0]["metadata"]["name"] == "s"
    assert "aHVudGVyMg==" not in str(documents)
    assert "pilvi-report/versions.json" in names


async def test_no_canary_is_anywhere_in_the_archive(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted where people and programs put secrets: objects, logs, options of units, causes, errors."""
    fake_api.put("/api/v1/namespaces/default/secrets/s", {**SECRET, "stringData": {"plain": "CANARY-0"}})
    fake_api.put("/api/v1/namespaces/default/pods/p", obj("Pod", "p", spec={"containers": [{"env": [{"name": "A", "value": "CANARY-1"}]}]}))
    fake_api.objects["/apis"] = {"groups": []}
    listed = {"namespaced": True, "verbs": ["list", "watch"]}
    resources = [{"name": "secrets", "kind": "Secret", **listed}, {"name": "pods", "kind": "Pod", **listed}]
    fake_api.objects["/api/v1"] = {"resources": resources}
    fake_api.faults.append(lambda request: _known(fake_api, request.path))
    cloud = make_cloud(tmp_path)
    (cloud.home / "logs").mkdir(parents=True)
    (cloud.home / "logs" / "engine.log").write_text("start\njoin --token abcdef.0123456789canary --password=CANARY-2\nthe end\n")
    cloud.units_dir.mkdir(parents=True)
    argv = ("server", "--token", "CANARY-3", "--db=https://me:CANARY-4@db:5432/")
    spec = UnitSpec(name="u", argv=argv, log_path=cloud.home / "logs" / "u.log")
    save_record(cloud.units_dir, Record(spec=spec, digest=spec.digest, process=Identity("boot", 1, 1), started_at=1.0))
    monkeypatch.setattr(report.os, "geteuid", lambda: 0)  # only root reads logs; here they are ours

    async def no_network(*_arguments: object) -> None:
        pass

    monkeypatch.setattr(report, "_add_network", no_network)
    unit = UnitStatus("u", None, "exited", None, "ended with exit code 1: password: CANARY-5")
    path = tmp_path / "report.tar.gz"
    await write_report(path, Status(cloud=_nobody(), engine=EngineStatus(), units=[unit]), cloud, fake_api.kubeconfig)
    content = read_archive(path)
    whole = "".join(f"{name}\n{text}" for name, text in content.items())
    for canary in ("CANARY", "0123456789canary"):
        assert canary not in whole
    # What holds them is there all the same.
    for name in ("objects/pods.yaml", "objects/secrets.yaml", "logs/engine.log", "units.json", "status.json"):
        assert "(left out)" in content[name], name
    assert "the end" in content["logs/engine.log"]


async def test_a_file_that_is_there_is_replaced_and_closed(tmp_path: Path) -> None:
    path, target = tmp_path / "report.tar.gz", tmp_path / "target"
    path.write_text("old")
    path.chmod(0o666)
    before = path.open()  # whoever has it open sees nothing of the new one
    await write_report(path, Status(cloud=_nobody(), engine=EngineStatus()), None, None)
    assert path.stat().st_mode & 0o777 == 0o600
    assert before.read() == "old"
    before.close()
    target.write_text("somebody's")
    path.unlink()
    path.symlink_to(target)
    await write_report(path, Status(cloud=_nobody(), engine=EngineStatus()), None, None)
    assert target.read_text() == "somebody's"
    assert not path.is_symlink()
    with pytest.raises(UserError, match="no regular file"):
        await write_report(Path("/dev/null"), Status(cloud=_nobody(), engine=EngineStatus()), None, None)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["report.tar.gz", "target"]


async def test_without_a_cloud_the_host_is_examined_all_the_same(tmp_path: Path, examined: list[Path]) -> None:
    path = tmp_path / "report.tar.gz"
    await write_report(path, Status(cloud=_nobody(), engine=EngineStatus()), None, None)
    assert examined == [DEFAULT_HOME]
    assert [finding["name"] for finding in json.loads(read_archive(path)["findings.json"])] == ["disk"]


def read_archive(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        files = [member for member in tar.getmembers() if member.isfile()]
        return {member.name.removeprefix("pilvi-report/"): tar.extractfile(member).read().decode() for member in files}  # type: ignore[union-attr]


async def test_with_a_dead_api_the_rest_is_there(tmp_path: Path) -> None:
    path = tmp_path / "report.tar.gz"
    missing = await write_report(path, Status(cloud=_nobody(), engine=EngineStatus(), api="refused"), None, None)
    assert missing == ["objects: refused"]
    with tarfile.open(path) as tar:
        assert "pilvi-report/status.json" in tar.getnames()


def _nobody():  # type: ignore[no-untyped-def]
    from pilvi.plane.status import CloudStatus

    return CloudStatus()


def _known(api: FakeApi, path: str):  # type: ignore[no-untyped-def]
    """Discovery, which the fake API server does not have."""
    from aiohttp import web

    return web.json_response(api.objects[path]) if path in {"/apis", "/api/v1"} else None
