"""What virtctl asks for besides streams, through TLS and RBAC, down to the object or the machine."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pilvi.providers.kubevirt.kinds import CLUSTER_INSTANCETYPES, INSTANCES, MACHINES
from tests.fake_api import status_response
from tests.unit.providers.kubevirt.objects import UID, make_vm
from tests.unit.providers.kubevirt.subresources.served import PNG, ReviewingApi, Served, serving
from tests.virtctl import Virtctl, VirtctlError

STOP = {"action": "Stop", "uid": UID}
START = {"action": "Start"}


async def test_the_life_of_a_machine(served: Served) -> None:
    served.put_machine("Halted")
    async with served.virtctl() as virtctl:
        await virtctl.start("web")
        assert served.get(MACHINES)["spec"]["runStrategy"] == "Always"
        served.put_instance()
        await virtctl.restart("web")
        assert served.get(MACHINES)["status"]["stateChangeRequests"] == [STOP, START]
        await virtctl.stop("web", grace_period=0)
        assert served.get(MACHINES)["spec"]["runStrategy"] == "Halted"
        assert served.get(INSTANCES)["spec"]["terminationGracePeriodSeconds"] == 0
        with pytest.raises(VirtctlError, match="does not support manual restart") as refused:
            await virtctl.restart("web")
    assert refused.value.code == 409
    assert refused.value.status["reason"] == "Conflict"
    assert refused.value.status["details"]["name"] == "web"


async def test_a_dry_run_is_one_all_the_way(served: Served) -> None:
    served.put_machine("Manual")
    served.put_instance()
    before = len(served.api.requests)
    async with served.virtctl() as virtctl:
        await virtctl.stop("web", grace_period=1, dry_run=True)
        await virtctl.pause("web", dry_run=True)
    writes = [path for method, path in served.api.requests[before:] if method == "PATCH"]
    assert len(writes) == 2
    assert all(path.endswith("?dryRun=All") for path in writes)
    assert served.control.calls == []


async def test_whoever_loses_a_race_looks_again(served: Served) -> None:
    served.put_machine("Manual")
    served.put_instance()
    lost = itertools.count(1)

    def fault(request: web.Request) -> web.StreamResponse | None:
        return status_response(409, "Conflict") if request.method == "PATCH" and next(lost) <= 2 else None

    served.api.faults.append(fault)
    async with served.virtctl() as virtctl:
        await virtctl.stop("web")
        assert served.get(MACHINES)["status"]["stateChangeRequests"] == [STOP]
        served.api.fail(409, "Conflict", method="PATCH", times=99)
        with pytest.raises(VirtctlError) as refused:
            await virtctl.stop("web")
    assert refused.value.code == 409


async def test_an_instance_of_somebody_else_is_not_the_machines(served: Served) -> None:
    served.put_machine("Manual")
    vmi = served.put_instance()
    vmi["metadata"]["ownerReferences"][0]["uid"] = "another"
    served.put(INSTANCES, vmi)
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match="not running"):
            await virtctl.stop("web")


async def test_what_is_not_there(served: Served) -> None:
    async with served.virtctl() as virtctl:
        for call in (virtctl.start("web"), virtctl.expand("web"), virtctl.migrate("web")):
            with pytest.raises(VirtctlError) as missing:
                await call
            assert missing.value.code == 404
            assert str(missing.value) == 'virtualmachine.kubevirt.io "web" not found'
        with pytest.raises(VirtctlError) as missing:
            await virtctl.pause("web")
        assert (missing.value.code, missing.value.status["reason"]) == (404, "NotFound")


async def test_migrate_makes_a_migration_of_a_machine_that_runs_and_does_not_move_yet(served: Served) -> None:
    served.put_machine("Always")
    served.put_instance("Scheduled")
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match="not running"):
            await virtctl.migrate("web")
        served.put_instance()
        await virtctl.migrate("web")
        (made,) = [obj for obj in served.api.objects.values() if obj["kind"] == "VirtualMachineInstanceMigration"]
        assert made["metadata"]["name"].startswith("kubevirt-migrate-vm-")
        assert made["spec"] == {"vmiName": "web"}
        with pytest.raises(VirtctlError, match="in-flight migration") as refused:
            await virtctl.migrate("web")
    assert refused.value.code == 409


async def test_an_eviction_is_taken_back(served: Served) -> None:
    served.put_machine("Always")
    async with served.virtctl() as virtctl:
        for kind in ("vm", "vmi"):
            served.put_instance()
            await virtctl.evacuate_cancel("web", kind=kind)
            served.get(INSTANCES)["status"]["evacuationNodeName"] = "box"
            with pytest.raises(VirtctlError, match="leaves the host box, not other") as refused:
                await virtctl.evacuate_cancel("web", kind=kind, node="other")
            assert refused.value.code == 409
            await virtctl.evacuate_cancel("web", kind=kind, node="box", dry_run=True)
            assert served.api.requests[-1][1].endswith("?dryRun=All")
            served.get(INSTANCES)["status"]["evacuationNodeName"] = "box"  # the fake API does not know of dry runs
            await virtctl.evacuate_cancel("web", kind=kind, node="box")
            assert "evacuationNodeName" not in served.get(INSTANCES)["status"]


async def test_expand_gives_the_machine_as_it_is(served: Served) -> None:
    stored = served.put_machine("Always")
    async with served.virtctl() as virtctl:
        assert await virtctl.expand("web") == stored
        vm = make_vm()
        del vm["metadata"]["namespace"]
        assert (await virtctl.expand_file(vm))["metadata"]["namespace"] == "shop"
        for wrong in ({**vm, "kind": "Pod"}, {**vm, "spec": None}, {**vm, "metadata": {"namespace": "elsewhere"}}):
            with pytest.raises(VirtctlError) as refused:
                await virtctl.expand_file(wrong)
            assert refused.value.code == 400


async def test_expand_puts_the_instancetype_in(served: Served) -> None:
    served.put(CLUSTER_INSTANCETYPES, {"metadata": {"name": "small"}, "spec": {"cpu": {"guest": 2}, "memory": {"guest": "1Gi"}}})
    vm = make_vm()
    vm["spec"] |= {"instancetype": {"name": "small"}}
    vm["status"] = {"instancetypeRef": {"name": "another"}, "printableStatus": "Stopped"}
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match="conflicts with selected instance type") as refused:
            await virtctl.expand_file(vm)
        assert refused.value.code == 400
        vm["spec"]["template"]["spec"]["domain"] = {"devices": {}}
        expanded = await virtctl.expand_file(vm)
    assert "instancetype" not in expanded["spec"]
    assert expanded["status"] == {"printableStatus": "Stopped"}
    spec = expanded["spec"]["template"]["spec"]
    assert (spec["domain"]["memory"], spec["domain"]["cpu"]["sockets"]) == ({"guest": "1Gi"}, 2)
    assert spec["domain"]["devices"]["disks"] == [{"name": "root"}]
    assert "firmware" not in spec["domain"], "another machine made of it has an identity of its own"


async def test_the_buttons_of_a_running_instance(served: Served) -> None:
    served.put_instance()
    async with served.virtctl() as virtctl:
        await virtctl.pause("web")
        await virtctl.reset("web")
        await virtctl.soft_reboot("web")
        await virtctl.freeze("web", "1h1m1.5s")
        await virtctl.freeze("web", "0s")
        await virtctl.unfreeze("web")
        assert await virtctl.screenshot("web") == PNG
        served.put_instance(Paused="True")
        await virtctl.unpause("web")
    calls = ["pause", "reset", "soft_reboot", ("freeze", 3661.5), ("freeze", 300.0), "thaw", "screenshot", "resume"]
    assert served.control.calls == [(call, UID) if isinstance(call, str) else (call[0], UID, call[1]) for call in calls]


@pytest.mark.parametrize(
    ("conditions", "spec", "call", "code", "message"),
    [
        ({"Paused": "True"}, {}, "pause", 409, "paused already"),
        ({}, {}, "unpause", 409, "not paused"),
        ({}, {"livenessProbe": {"tcpSocket": {"port": 80}}}, "pause", 403, "liveness probe"),
        ({"Paused": "True"}, {}, "soft_reboot", 409, "it is paused"),
        ({}, {"domain": {"features": {"acpi": {"enabled": False}}}}, "soft_reboot", 409, "cannot be asked"),
    ],
)
async def test_what_the_state_forbids(
    served: Served, conditions: dict[str, str], spec: dict[str, Any], call: str, code: int, message: str
) -> None:
    served.put_instance(spec=spec, **conditions)
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match=message) as refused:
            await getattr(virtctl, call)("web")
    assert refused.value.code == code
    assert served.control.calls == []


async def test_a_guest_that_stands_still_to_arrive_goes_on_by_itself(served: Served) -> None:
    vmi = served.put_instance(Paused="True")
    vmi["status"]["migrationState"] = {"mode": "Paused"}
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match="until it has arrived") as refused:
            await virtctl.unpause("web")
        assert refused.value.code == 409
        vmi["status"]["migrationState"]["completed"] = True
        await virtctl.unpause("web")
    assert served.control.calls == [("resume", UID)]


async def test_a_probe_by_the_agent_may_be_paused(served: Served) -> None:
    served.put_instance(spec={"livenessProbe": {"guestAgentPing": {}}})
    async with served.virtctl() as virtctl:
        await virtctl.pause("web")
    assert served.control.calls == [("pause", UID)]


@pytest.mark.parametrize(
    "call", ["pause", "unpause", "reset", "soft_reboot", "freeze", "unfreeze", "guest_os_info", "user_list", "fs_list"]
)
async def test_an_instance_that_does_not_run(served: Served, call: str) -> None:
    served.put_instance("Scheduled")
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match="not running") as refused:
            await getattr(virtctl, call)("web")
    assert refused.value.code == 409


@pytest.mark.parametrize(
    "call", ["pause", "reset", "soft_reboot", "freeze", "unfreeze", "guest_os_info", "user_list", "fs_list", "screenshot"]
)
async def test_a_sandbox_says_what_there_is_instead(served: Served, call: str) -> None:
    served.put_instance(fidelity="Sandbox")
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match=r"the machine is a sandbox and has no such thing as .*; .") as refused:
            await getattr(virtctl, call)("web")
    assert (refused.value.code, refused.value.status["reason"]) == (409, "Conflict")


async def test_what_the_guest_agent_says(served: Served) -> None:
    served.put_instance()
    commands = ["guest-get-osinfo", "guest-get-host-name", "guest-get-timezone", "guest-get-users", "guest-get-fsinfo"]
    disk = {"serial": "root", "bus-type": "virtio", "bus": 0, "unit": 0, "target": 0}
    served.control.answers = {
        "guest-info": {
            "version": "8.2",
            "supported_commands": [
                *({"name": name, "enabled": True, "success-response": True} for name in commands),
                {"name": "guest-fsfreeze-status", "enabled": False},
            ],
        },
        "guest-get-osinfo": {"id": "debian", "name": "Debian", "pretty-name": "Debian 12", "kernel-release": "6.1", "machine": "x86_64"},
        "guest-get-host-name": {"host-name": "web"},
        "guest-get-timezone": {"zone": "UTC", "offset": 0},
        "guest-get-users": [{"user": "root", "login-time": 1700000000.5}],
        "guest-get-fsinfo": [
            {"name": "vda1", "mountpoint": "/", "type": "ext4", "used-bytes": 5, "total-bytes": 9, "disk": [disk]},
            {"name": "vdb", "mountpoint": "/boot", "type": "vfat", "disk": []},
        ],
    }
    async with served.virtctl() as virtctl:
        info = await virtctl.guest_os_info("web")
        users = await virtctl.user_list("web")
        disks = await virtctl.fs_list("web")
    assert info["os"] == {"id": "debian", "name": "Debian", "prettyName": "Debian 12", "kernelRelease": "6.1", "machine": "x86_64"}
    assert (info["guestAgentVersion"], info["hostname"], info["timezone"]) == ("8.2", "web", "UTC, 0")
    assert info["supportedCommands"][-1] == {"name": "guest-fsfreeze-status", "enabled": False}
    assert users["items"] == info["userList"] == [{"userName": "root", "loginTime": 1700000000.5}]
    root = {"diskName": "vda1", "mountPoint": "/", "fileSystemType": "ext4", "usedBytes": 5, "totalBytes": 9}
    boot = {"diskName": "vdb", "mountPoint": "/boot", "fileSystemType": "vfat", "usedBytes": 0, "totalBytes": 0}
    assert disks["items"] == info["fsInfo"]["disks"] == [{**root, "disk": [{"serial": "root", "busType": "virtio"}]}, boot]
    assert ("agent", UID, "guest-fsfreeze-status") not in served.control.calls, "a command that the guest forbids is not tried"


async def test_a_guest_without_an_agent(served: Served) -> None:
    served.put_instance()
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match="not connected; install qemu") as refused:
            await virtctl.guest_os_info("web")
    assert refused.value.code == 409


async def test_what_is_refused_by_name(served: Served) -> None:
    async with served.virtctl() as virtctl:
        with pytest.raises(
            VirtctlError, match=r"^.*backup of virtualmachineinstances is not served by pilvi: .*inside the guest"
        ) as refused:
            await virtctl._put("virtualmachineinstances", "web", "backup")
        assert refused.value.code == 400


@pytest.mark.parametrize("body", ["{", '"text"', '{"graceperiod": 1}', '{"gracePeriod": "1"}', '{"dryRun": ["Some"]}'])
async def test_bodies_that_are_none(served: Served, body: str) -> None:
    served.put_machine("Manual")
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError) as refused:
            await virtctl._send("PUT", virtctl._path("virtualmachines", "web", "stop"), body.encode())
    assert (refused.value.code, refused.value.status["reason"]) == (400, "BadRequest")


async def test_a_duration_that_is_none(served: Served) -> None:
    served.put_instance()
    async with served.virtctl() as virtctl:
        for text in ("soon", "", "5"):
            with pytest.raises(VirtctlError, match="no duration"):
                await virtctl.freeze("web", text)


async def test_the_platforms_own_refusals_are_passed_on(served: Served) -> None:
    served.put_machine("Halted")
    async with served.virtctl() as virtctl:
        served.api.fail(403, "Forbidden", method="PATCH")
        with pytest.raises(VirtctlError, match="made to fail with 403") as refused:
            await virtctl.start("web")
        assert refused.value.code == 403


async def test_version(served: Served) -> None:
    async with served.virtctl() as virtctl:
        assert (await virtctl.version())["gitVersion"].startswith("v1.9.0+pilvi.")


async def test_the_older_version_serves_the_same(served: Served) -> None:
    served.put_machine("Halted")
    async with served.virtctl() as virtctl:
        path = virtctl._path("virtualmachines", "web", "start").replace("/v1/", "/v1alpha3/")
        await virtctl._send("PUT", path)
    assert served.get(MACHINES)["spec"]["runStrategy"] == "Always"


async def test_paths_and_methods_that_there_are_none_of(served: Served) -> None:
    async with served.virtctl() as virtctl:
        for method, path in (("GET", "start"), ("POST", "start"), ("PUT", "explode")):
            with pytest.raises(VirtctlError, match=f"the engine serves no {method} ") as refused:
                await virtctl._send(method, virtctl._path("virtualmachines", "web", path))
            assert (refused.value.code, refused.value.status["reason"]) == (404, "NotFound")


# Who gets in


async def test_rbac_is_asked_about_the_full_name(served: Served) -> None:
    served.put_instance()
    async with served.virtctl("bob", ("team-a",)) as virtctl:
        await virtctl.screenshot("web")
        await virtctl.screenshot("web")
    spec = served.api.asked[0]
    assert (spec["user"], spec["groups"]) == ("bob", ["team-a"])
    assert spec["extra"] == {"authentication.kubernetes.io/node": ["n1"]}
    assert spec["resourceAttributes"] == {
        "group": "subresources.kubevirt.io",
        "version": "v1",
        "resource": "virtualmachineinstances",
        "subresource": "vnc/screenshot",
        "verb": "get",
        "namespace": "shop",
        "name": "web",
    }
    assert len(served.api.asked) == 1, "asked once within a few seconds"


async def test_whom_rbac_does_not_know_gets_a_403_that_explains(served: Served) -> None:
    served.put_machine("Halted")
    served.api.allows = lambda spec: spec["user"] == "anna"
    async with served.virtctl() as anna, served.virtctl("bob") as bob:
        with pytest.raises(VirtctlError) as refused:
            await bob.start("web")
        await anna.start("web")
        with pytest.raises(VirtctlError):
            await bob.stop("web")
    assert refused.value.code == 403
    assert refused.value.status["reason"] == "Forbidden"
    assert str(refused.value) == (
        'virtualmachines.subresources.kubevirt.io "web" is forbidden: User "bob" cannot update resource "virtualmachines/start" in'
        ' API group "subresources.kubevirt.io" in the namespace "shop": no rule says so'
    )


async def test_ports_are_not_part_of_what_rbac_sees(served: Served) -> None:
    served.api.allows = lambda _spec: False
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError):
            async with virtctl.port_forward("web", 22):
                pass
    assert served.api.asked[0]["resourceAttributes"]["subresource"] == "portforward"


async def test_nothing_is_allowed_while_nobody_can_say(served: Served) -> None:
    served.put_machine("Halted")

    def broken(_spec: Any) -> bool:
        raise web.HTTPInternalServerError

    served.api.allows = broken
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError) as refused:
            await virtctl.start("web")
    assert refused.value.code == 500
    assert served.get(MACHINES)["spec"]["runStrategy"] == "Halted"


@pytest.mark.parametrize(("name", "authority"), [(None, ""), ("front-proxy-client", "strangers")])
async def test_strangers_do_not_even_get_a_connection(served: Served, name: str | None, authority: str) -> None:
    url = f"https://localhost:{served.port}/apis/subresources.kubevirt.io/v1/version"
    connector = aiohttp.TCPConnector(ssl=served.context(name, authority))
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await session.get(url, headers={"X-Remote-User": "admin", "X-Remote-Group": "system:masters"})


@pytest.mark.parametrize(("name", "user"), [("somebody", "admin"), ("front-proxy-client", "")])
async def test_only_the_front_proxy_speaks_for_users(served: Served, name: str, user: str) -> None:
    served.put_machine("Halted")
    path = f"https://localhost:{served.port}/apis/subresources.kubevirt.io/v1/namespaces/shop/virtualmachines/web/start"
    connector = aiohttp.TCPConnector(ssl=served.context(name))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.put(path, headers={"X-Remote-User": user, "X-Remote-Group": "system:masters"}) as response,
    ):
        assert response.status == 401
        assert (await response.json())["reason"] == "Unauthorized"
    assert served.api.asked == []


# Discovery


async def get(virtctl: Virtctl, path: str) -> Any:
    async with virtctl.session.get(virtctl.server + path, headers=virtctl.headers) as response:
        assert response.status == 200, path
        return await response.json()


async def test_discovery_and_openapi_agree(served: Served) -> None:
    async with served.virtctl() as virtctl:
        groups = (await get(virtctl, "/apis"))["groups"]
        assert [group["name"] for group in groups] == ["subresources.kubevirt.io"]
        assert (await get(virtctl, "/apis/subresources.kubevirt.io"))["preferredVersion"]["version"] == "v1"
        for version in ("v1", "v1alpha3"):
            names = [resource["name"] for resource in (await get(virtctl, f"/apis/subresources.kubevirt.io/{version}"))["resources"]]
            assert {"virtualmachines/start", "virtualmachineinstances/vnc/screenshot", "expand-vm-spec"} <= set(names)
            assert len(set(names)) == len(names)
        index = await get(virtctl, "/openapi/v3")
        for entry in index["paths"].values():
            assert (await get(virtctl, entry["serverRelativeURL"]))["openapi"].startswith("3.")
        paths = (await get(virtctl, "/openapi/v2"))["paths"]
        assert set(paths["/apis/subresources.kubevirt.io/v1/namespaces/{namespace}/virtualmachines/{name}/stop"]) == {"put", "parameters"}


async def test_an_api_that_is_away_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    api = ReviewingApi()
    await api.start()
    api.fail(503, "ServiceUnavailable", method="PATCH", retry_after=0)
    async with serving(api, tmp_path) as served:
        assert not served.task.done()
    await api.stop()
