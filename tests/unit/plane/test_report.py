import tarfile
from pathlib import Path

import yaml

from pilvi.api import JsonObject
from pilvi.plane.report import redact, write_report
from pilvi.plane.status import EngineStatus, Status
from tests.fake_api import FakeApi

SECRET: JsonObject = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {
        "name": "s",
        "managedFields": [{"manager": "x"}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hunter2", "kept": "yes"},
    },
    "data": {"key": "aHVudGVyMg=="},
    "stringData": {"plain": "hunter2"},
}


def test_secrets_keep_their_keys_only() -> None:
    clean = redact(SECRET)
    assert "hunter2" not in str(clean)
    assert "aHVudGVyMg==" not in str(clean)
    assert list(clean["data"]) == ["key"]
    assert clean["metadata"] == {"name": "s", "annotations": {"kept": "yes"}}
    assert SECRET["data"] == {"key": "aHVudGVyMg=="}


def test_tokens_and_user_data_are_left_out_wherever_they_stand() -> None:
    config: JsonObject = {
        "kind": "KubeadmConfig",
        "metadata": {"name": "c"},
        "spec": {
            "joinConfiguration": {"discovery": {"bootstrapToken": {"token": "abc.def", "apiServerEndpoint": "1.2.3.4:6443"}}},
            "users": [{"name": "me", "passwd": "hash"}],
            "volumes": [{"cloudInitNoCloud": {"userData": "#cloud-config", "userDataSecretRef": {"name": "s"}}}],
        },
    }
    clean = redact(config)
    for word in ("abc.def", "hash", "#cloud-config"):
        assert word not in str(clean)
    assert clean["spec"]["joinConfiguration"]["discovery"]["bootstrapToken"]["apiServerEndpoint"] == "1.2.3.4:6443"
    assert clean["spec"]["volumes"][0]["cloudInitNoCloud"]["userDataSecretRef"] == {"name": "s"}


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
