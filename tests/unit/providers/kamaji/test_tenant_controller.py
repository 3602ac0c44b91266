"""The controller of TenantControlPlane: from empty, half-made, drift, faults at every write, deletion."""

from __future__ import annotations

import base64
import errno
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import ENDPOINT_SLICES, SECRETS, SERVICES
from pilvi.api.kamaji import DataStore, TenantControlPlane
from pilvi.api.kubeovn import Vpc
from pilvi.errors import NotFound, ServerBusy
from pilvi.providers.kamaji.tenantcontrolplane import phases, user
from pilvi.providers.kamaji.tenantcontrolplane.secrets import SUFFIXES
from pilvi.providers.kamaji.tenantcontrolplane.status import find_deployment_condition
from pilvi.tenant import control_plane_dir
from tests.fake_api import FakeApi, status_response
from tests.unit.providers.kamaji.objects import ADDRESS, cloud, tenant
from tests.unit.providers.kamaji.world import World, give_address, started_world

TENANTS = TenantControlPlane.RESOURCE


def phase(world: World, name: str = "first") -> str:
    status = (world.find(TENANTS, name) or {}).get("status") or {}
    return str(((status.get("kubernetesResources") or {}).get("version") or {}).get("status", ""))


def problem(world: World, name: str = "first") -> tuple[str, str]:
    condition = find_deployment_condition(world.get(TENANTS, name), "Progressing") or {}
    return (condition.get("reason", ""), condition.get("message", "")) if condition.get("status") == "False" else ("", "")


async def addressed(world: World, name: str = "first") -> None:
    service = await world.until(lambda: world.find(SERVICES, name), "the Service")
    give_address(world, service)


async def ready(world: World, name: str = "first") -> None:
    await world.until(lambda: phase(world, name) == "Ready", f"{name} to be ready")


async def test_from_empty(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant())
        await world.until(lambda: problem(world)[0] == "AddressPending", "the address to be awaited")
        assert world.units.log == []
        await addressed(world)
        await ready(world)
        obj = world.get(TENANTS, "first")
        assert obj["metadata"]["finalizers"] == ["kamaji.clastix.io/finalizer"]
        assert obj["metadata"]["annotations"]["pilvi.dev/uid"] == "700001"
        assert obj["status"]["controlPlaneEndpoint"] == f"{ADDRESS}:6443"
        for suffix in SUFFIXES:
            assert world.get(SECRETS, f"first-{suffix}")["metadata"]["ownerReferences"][0]["uid"] == obj["metadata"]["uid"]
        assert world.get(SECRETS, "first-ca")["type"] == "cluster.x-k8s.io/secret"
        assert world.get(ENDPOINT_SLICES, "first")["endpoints"][0]["addresses"] == [str(ADDRESS)]
        started = [entry.rpartition("-cp-")[2] for entry in world.units.log]
        order = [next(i for i, entry in enumerate(started) if entry.endswith(end)) for end in ("etcd", "kube-controller-manager")]
        assert order == sorted(order)
        api_ready = next(i for i, entry in enumerate(world.units.log) if entry.startswith("ready"))
        assert api_ready < next(i for i, entry in enumerate(world.units.log) if "scheduler" in entry)
        assert next(i for i, entry in enumerate(world.units.log) if entry.startswith("serves")) < api_ready
        assert world.host.count("kubeadm") == 1


async def test_nothing_is_made_twice(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant())
        await addressed(world)
        await ready(world)
        secrets = {suffix: world.get(SECRETS, f"first-{suffix}")["data"] for suffix in SUFFIXES}
        starts = [entry for entry in world.units.log if entry.startswith("start")]
        obj = world.get(TENANTS, "first")
        obj["metadata"]["labels"] = {"touched": "yes"}
        before = world.host.count("network")
        world.put(TENANTS, obj)
        await world.until(lambda: world.host.count("network") > before, "one more reconcile")
        await ready(world)
        assert secrets == {suffix: world.get(SECRETS, f"first-{suffix}")["data"] for suffix in SUFFIXES}
        assert starts == [entry for entry in world.units.log if entry.startswith("start")]
        assert world.host.count("kubeadm") == 1


async def test_two_at_once_get_two_uids(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        names = [f"t{number}" for number in range(6)]
        for name in names:
            world.put(TENANTS, tenant(name))
        await world.until(lambda: all(world.find(SERVICES, name) for name in names), "all Services")
        uids = {world.get(TENANTS, name)["metadata"]["annotations"]["pilvi.dev/uid"] for name in names}
        assert len(uids) == 6


@pytest.mark.parametrize("number", range(16))
async def test_a_write_that_fails_is_made_up_for(number: int, fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each write of a creation in turn is refused once."""
    count = -1

    def fault(request: web.Request) -> web.StreamResponse | None:
        nonlocal count
        if request.method == "GET" or "/events" in request.path:
            return None
        count += 1
        return status_response(500, "InternalError") if count == number else None

    fake_api.faults.append(fault)
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant())
        await addressed(world)
        await ready(world)
        authority = world.get(SECRETS, "first-ca")["data"]
        assert authority["tls.crt"] == authority["ca.crt"]
        kubeconfig = base64.b64decode(world.get(SECRETS, "first-admin-kubeconfig")["data"]["admin.conf"]).decode()
        assert authority["ca.crt"] in kubeconfig
        assert count >= number


async def test_drift_is_repaired(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant())
        await addressed(world)
        await ready(world)
        before = world.get(SECRETS, "first-scheduler-kubeconfig")["data"]
        fake_api.remove(SECRETS.object_path(_key("first-scheduler-kubeconfig")))
        await world.until(lambda: world.find(SECRETS, "first-scheduler-kubeconfig"), "the Secret to come back")
        assert world.get(SECRETS, "first-scheduler-kubeconfig")["data"] != before
        fake_api.remove(SERVICES.object_path(_key("first")))
        service = await world.until(lambda: world.find(SERVICES, "first"), "the Service to come back")
        assert service["spec"]["loadBalancerIP"] == str(ADDRESS)


async def test_a_lost_authority_stops_all_changes(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant())
        await addressed(world)
        await ready(world)
        kept = world.get(SECRETS, "first-ca")
        fake_api.remove(SECRETS.object_path(_key("first-ca")))
        await world.until(lambda: problem(world)[0] == "CertificateAuthorityMissing", "the condition")
        assert "first-ca" in problem(world)[1]
        assert world.find(SECRETS, "first-ca") is None
        world.put(SECRETS, kept)
        await world.until(lambda: problem(world) == ("", ""), "the condition to go")
        assert world.get(SECRETS, "first-ca")["data"] == kept["data"]


async def test_unknown_version_makes_nothing(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant(kubernetes={"version": "v1.20.0", "kubelet": {}}))
        await world.until(lambda: problem(world)[0] == "UnknownVersion", "the condition")
        assert "v1.36.3, v1.37.2" in problem(world)[1]
        assert world.find(SERVICES, "first") is None
        assert world.host == []


async def test_upgrade_and_no_way_back(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        old = {"version": "1.36.3", "kubelet": {}}
        world.put(TENANTS, tenant(kubernetes=old))
        await addressed(world)
        await ready(world)
        assert _running(world) == {"v1.36.3"}
        await _set_version(world, "v1.37.2")
        await world.until(lambda: _installed(world) == "v1.37.2", "the upgrade")
        assert _running(world) == {"v1.37.2"}
        assert world.host.count("kubeadm") == 2
        await _set_version(world, "1.36.3")
        await world.until(lambda: problem(world)[0] == "DowngradeNotSupported", "the condition")
        assert _running(world) == {"v1.37.2"}
        assert phase(world) == "Ready"


@pytest.mark.parametrize("is_present", [True, False])
async def test_a_version_that_the_kit_has_no_more_runs_on(
    is_present: bool, fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant(kubernetes={"version": "v1.36.3", "kubelet": {}}))
        await addressed(world)
        await ready(world)
        running = dict(world.units.specs)
        world.kit.versions = ["v1.37.2"]
        if is_present:
            world.kit.present.add("v1.36.3")
        told: list[str] = []
        monkeypatch.setattr(world.platform.events, "record", lambda _obj, _type, reason, _message: told.append(reason))
        _wake(world)
        await world.until(lambda: _progressing(world)["reason"] == "UpgradeDue", "the condition")
        message = _progressing(world)["message"]
        assert "upgrade it to v1.37.2" in message
        assert ("cannot be started again" in message) != is_present
        assert _progressing(world)["status"] == "True"
        assert phase(world) == "Ready"
        assert world.units.specs == running
        assert told.count("UpgradeDue") == 1


async def test_a_version_whose_programs_are_gone_is_not_started_until_upgraded(
    fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant(kubernetes={"version": "v1.36.3", "kubelet": {}}))
        await addressed(world)
        await ready(world)
        world.kit.versions = ["v1.37.2"]
        names = list(world.units.specs)
        world.units.specs.clear()  # a power cut
        for callback in world.units.callbacks:
            callback(names[0])
        await world.until(lambda: problem(world)[0] == "VersionGone", "the condition")
        assert "Kubernetes v1.36.3" in problem(world)[1]
        assert "upgrade" in problem(world)[1]
        assert phase(world) == "NotReady"
        assert world.units.specs == {}
        await _set_version(world, "v1.37.2")
        await ready(world)
        assert _running(world) == {"v1.37.2"}


@pytest.mark.parametrize(
    ("changes", "reason", "text"),
    [
        ({"dataStore": "mine"}, "DataStoreNotServed", "default"),
        ({"networkProfile": {"podCidr": "10.250.0.0/16"}}, "InvalidSpec", "the cloud's range"),
    ],
)
async def test_bad_input_is_a_condition(
    changes: dict[str, Any], reason: str, text: str, fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant(**changes))
        await world.until(lambda: problem(world)[0] == reason, "the condition")
        assert text in problem(world)[1]
        assert world.find(SERVICES, "first") is None


async def test_a_service_of_somebody_else_is_left_alone(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        theirs = world.put(SERVICES, {"metadata": {"name": "first", "namespace": "default"}, "spec": {"type": "ClusterIP"}})
        world.put(TENANTS, tenant())
        await world.until(lambda: problem(world)[0] == "NameTaken", "the condition")
        assert "Service default/first is in the way" in problem(world)[1]
        assert world.find(SERVICES, "first") == theirs
        fake_api.remove(SERVICES.object_path(Key("default", "first")))
        await addressed(world)
        await ready(world)


async def test_a_dead_api_server_is_told_and_recovers(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant())
        await addressed(world)
        await ready(world)
        world.units.dead = True
        name = next(iter(world.units.specs))
        for callback in world.units.callbacks:
            callback(name)
        await world.until(lambda: phase(world) == "NotReady" and problem(world)[0] == "ComponentFailed", "the condition")
        assert "last words" in problem(world)[1]
        world.units.dead = False
        for callback in world.units.callbacks:
            callback(name)
        await ready(world)
        assert problem(world) == ("", "")


async def test_add_ons_are_told_as_they_were_while_the_api_server_is_away(
    fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant(addons={"coreDNS": {}}))
        await addressed(world)
        await ready(world)
        told = world.get(TENANTS, "first")["status"]["addons"]
        assert (told["coreDNS"]["enabled"], told["kubeProxy"]["enabled"]) == (True, False)
        world.units.dead = True
        world.units.callbacks[0](next(iter(world.units.specs)))
        await world.until(lambda: phase(world) == "NotReady", "the API server to be missed")
        assert world.get(TENANTS, "first")["status"]["addons"] == told


async def test_a_tenant_that_is_busy_is_told_and_asked_again(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        refusals = [ServerBusy("the tenant is busy"), NotFound("kube-system is not there yet")]
        written = phases.ensure_inside

        async def ensure_inside(*arguments: Any) -> None:
            if refusals:
                raise refusals.pop()
            await written(*arguments)

        monkeypatch.setattr(phases, "ensure_inside", ensure_inside)
        world.put(TENANTS, tenant())
        await addressed(world)
        await world.until(lambda: problem(world)[0] == "ControlPlaneBusy", "the condition")
        await ready(world)
        assert refusals == []
        assert problem(world) == ("", "")


async def test_no_user_left_is_a_condition_that_passes(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        choose = user.choose_uid
        monkeypatch.setattr(user, "choose_uid", lambda *_arguments, **_options: None)
        world.put(TENANTS, tenant())
        await world.until(lambda: problem(world)[0] == "UsersExhausted", "the condition")
        assert "delete a cluster" in problem(world)[1]
        assert world.find(SERVICES, "first") is None
        monkeypatch.setattr(user, "choose_uid", choose)
        await addressed(world)
        await ready(world)


async def test_a_secret_of_somebody_else_is_a_condition(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        # Without the label of ours it is in no cache, so nobody knows of it before.
        fake_api.faults.append(
            lambda request: (
                status_response(409, "AlreadyExists") if request.method == "POST" and request.path.endswith("/secrets") else None
            )
        )
        world.put(TENANTS, tenant())
        await addressed(world)
        await world.until(lambda: problem(world)[0] == "ObjectInTheWay", "the condition")
        assert "kamaji.clastix.io/project: kamaji" in problem(world)[1]
        assert world.units.log == []


async def test_a_probe_that_fails_once_leaves_no_mark(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a busy machine an answer comes late. What was told then must be taken back, though the object read first said the same."""
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant())
        await addressed(world)
        await ready(world)
        answers = ["no answer within 2 s"]

        async def find_obstacle(_name: str) -> str | None:
            return answers.pop() if answers else None

        seen: list[str] = []
        write = world.platform.client.apply_status

        async def apply_status(resource: Resource, obj: JsonObject, **options: Any) -> JsonObject:
            seen.append(obj["status"]["kubernetesResources"]["version"]["status"])
            return await write(resource, obj, **options)

        monkeypatch.setattr(world.units, "find_obstacle", find_obstacle)
        monkeypatch.setattr(world.platform.client, "apply_status", apply_status)
        world.units.callbacks[0](next(iter(world.units.specs)))
        await world.until(lambda: "NotReady" in seen, "the late answer to be told")
        await ready(world)
        assert seen == ["NotReady", "Ready"]


async def test_deletion_needs_no_tenant_and_leaves_nothing(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant())
        await addressed(world)
        await ready(world)
        uid = world.get(TENANTS, "first")["metadata"]["uid"]
        data = control_plane_dir(cloud(tmp_path), uid)
        data.mkdir(parents=True)
        world.units.dead = True
        await world.platform.client.delete(TENANTS, _key("first"))
        await world.until(lambda: world.find(TENANTS, "first") is None, "the end")
        assert world.units.specs == {}
        assert "delete netns" in world.host
        assert not data.exists()


async def test_paused_is_left_alone(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        obj = tenant("held")
        obj["metadata"]["annotations"] = {"kamaji.clastix.io/paused": ""}
        world.put(TENANTS, obj)
        world.put(TENANTS, tenant("free"))
        await world.until(lambda: world.find(SERVICES, "free"), "the other one")
        assert world.find(SERVICES, "held") is None


async def test_a_paused_one_is_not_deleted_either(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        world.put(TENANTS, tenant())
        await addressed(world)
        await ready(world)
        await world.platform.client.patch(TENANTS, _key("first"), {"metadata": {"annotations": {"kamaji.clastix.io/paused": "true"}}})
        await world.platform.client.delete(TENANTS, _key("first"))
        world.put(TENANTS, tenant("second"))
        await addressed(world, "second")
        await ready(world, "second")
        assert world.find(TENANTS, "first") is not None
        assert "etcd" in " ".join(world.units.specs)
        await world.platform.client.patch(TENANTS, _key("first"), {"metadata": {"annotations": {"kamaji.clastix.io/paused": None}}})
        await world.until(lambda: world.find(TENANTS, "first") is None, "it to go")


def _wake(world: World) -> None:
    for callback in world.units.callbacks:
        callback(next(iter(world.units.specs)))


def _progressing(world: World) -> JsonObject:
    conditions = world.get(TENANTS, "first")["status"]["kubernetesResources"]["deployment"]["conditions"]
    return next(entry for entry in conditions if entry["type"] == "Progressing")


def _key(name: str) -> Key:
    return Key("default", name)


def _running(world: World) -> set[str]:
    return {Path(spec.argv[0]).parts[2] for spec in world.units.specs.values()}


def _installed(world: World) -> str:
    return str(world.get(TENANTS, "first")["status"]["kubernetesResources"]["version"].get("version", ""))


async def _set_version(world: World, version: str) -> None:
    obj = world.get(TENANTS, "first")
    obj["spec"]["kubernetes"]["version"] = version
    await world.platform.client.patch(TENANTS, _key("first"), {"spec": obj["spec"]})


async def test_a_deletion_does_not_wait_for_a_slow_start(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        monkeypatch.setattr(phases, "WAIT_S", 0.05)
        world.units.slow = True
        world.put(TENANTS, tenant())
        await addressed(world)
        await world.until(lambda: phase(world) == "Provisioning" and world.units.log.count("slow") > 2, "the start to take its time")
        assert problem(world) == ("", "")
        await world.platform.client.delete(TENANTS, _key("first"))
        await world.until(lambda: world.find(TENANTS, "first") is None, "the end")


async def test_a_start_that_takes_too_long_is_a_failure(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        monkeypatch.setattr(phases, "WAIT_S", 0.05)
        monkeypatch.setattr(phases, "START_TIMEOUT_S", 0.0)
        world.units.slow = True
        world.put(TENANTS, tenant())
        await addressed(world)
        await world.until(lambda: problem(world)[0] == "ComponentFailed", "the condition")
        world.units.slow = False
        await ready(world)


async def test_a_full_disk_is_a_condition(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:

        def full(plane: object, files: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "/home/pki/ca.crt")

        with monkeypatch.context() as patch:
            patch.setattr(phases, "install_files", full)
            world.put(TENANTS, tenant())
            await addressed(world)
            await world.until(lambda: "No space left on device" in problem(world)[1], "the condition")
        await ready(world)


async def test_no_leg_into_a_vpc_of_others(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    routers: dict[str, str | None] = {}
    monkeypatch.setattr(phases, "has_netns", lambda _name: True)
    planned = phases.plan_network

    def note(*arguments: Any) -> Any:
        routers[arguments[1].cluster_name] = arguments[-1]
        return planned(*arguments)

    monkeypatch.setattr(phases, "plan_network", note)
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        for name, users in (("theirs", ["other"]), ("ours", ["default"])):
            world.put(Vpc.RESOURCE, Vpc.RESOURCE.new(Key("", name), spec={"namespaces": users}))
            obj = tenant(name)
            obj["metadata"]["annotations"] = {"pilvi.dev/vpc": name}
            world.put(TENANTS, obj)
            await addressed(world, name)
            await ready(world, name)
        await world.until(lambda: routers["ours"] is not None, "the leg")
        assert routers["theirs"] is None


@pytest.mark.parametrize("asked", ["0", "700000", "700099", "nonsense"])
async def test_nobody_chooses_the_user_of_his_units(asked: str, fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        obj = tenant()
        obj["metadata"]["annotations"] = {"pilvi.dev/uid": asked}
        world.put(TENANTS, obj)
        await addressed(world)
        await ready(world)
        assert world.get(TENANTS, "first")["metadata"]["annotations"]["pilvi.dev/uid"] == "700001"
        assert {spec.uid for spec in world.units.specs.values()} == {700001}


async def test_a_copied_or_changed_user_is_corrected(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    owners: dict[Path, int] = {}
    monkeypatch.setattr(user, "data_owner", owners.get)
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        first = world.put(TENANTS, tenant())
        await addressed(world)
        await ready(world)
        owners[control_plane_dir(cloud(tmp_path), first["metadata"]["uid"])] = 700001
        copy = tenant("second")
        copy["metadata"]["annotations"] = {"pilvi.dev/uid": "700001"}
        copy = world.put(TENANTS, copy)
        await addressed(world, "second")
        await ready(world, "second")
        assert world.get(TENANTS, "second")["metadata"]["annotations"]["pilvi.dev/uid"] == "700002"
        owners[control_plane_dir(cloud(tmp_path), copy["metadata"]["uid"])] = 700002
        changed = world.get(TENANTS, "first")
        changed["metadata"]["annotations"]["pilvi.dev/uid"] = "700002"
        world.put(TENANTS, changed)
        await world.until(lambda: _user(world, "first") == "700001", "the annotation to be corrected")
        assert _user(world, "second") == "700002"


async def test_what_was_lost_is_swept(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A finalizer that is taken off by hand, also while no engine is there to see it."""
    lost = control_plane_dir(cloud(tmp_path), "lost-before")
    lost.mkdir(parents=True)
    default = DataStore.RESOURCE.new(Key("", "default"), spec={"driver": "etcd"})
    fake_api.put(DataStore.RESOURCE.object_path(Key("", "default")), default)
    async with started_world(fake_api, monkeypatch, tmp_path) as world:
        await world.until(lambda: not lost.exists(), "the data to go")
        obj = world.put(TENANTS, tenant())
        await addressed(world)
        await ready(world)
        data = control_plane_dir(cloud(tmp_path), obj["metadata"]["uid"])
        data.mkdir(parents=True)
        fake_api.remove(TENANTS.object_path(_key("first")))
        await world.until(lambda: not data.exists() and not world.units.specs, "everything to go")


def _user(world: World, name: str) -> str:
    return str(world.get(TENANTS, name)["metadata"]["annotations"]["pilvi.dev/uid"])
