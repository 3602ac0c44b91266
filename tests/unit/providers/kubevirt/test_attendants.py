"""Probes and credentials through the controllers: what they do to an instance, its Pod and its machine."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from pilvi.api import JsonObject
from pilvi.api.builtin import SECRETS
from pilvi.providers import kubevirt
from pilvi.providers.kubevirt.instance.probes.prober import DEAD
from pilvi.providers.kubevirt.kinds import INSTANCES, MACHINES
from pilvi.providers.kubevirt.machines.volumes import CloudInitDisk
from pilvi.runtime import find_condition, is_true
from tests.fake_api import FakeApi
from tests.unit.providers.kubevirt.fake_machines import FakeMachines
from tests.unit.providers.kubevirt.objects import make_vm
from tests.unit.providers.kubevirt.test_controllers import bind, find_vmi, phase, pods, put_network
from tests.unit.providers.kubevirt.test_credentials import Guest
from tests.unit.providers.kubevirt.test_probes import Control
from tests.unit.providers.stage import Stage, on_stage

EXEC = {"exec": {"command": ["true"]}, "periodSeconds": 1, "failureThreshold": 1}


@pytest.fixture
def machines() -> FakeMachines:
    return FakeMachines()


@pytest_asyncio.fixture
async def stage(fake_api: FakeApi, tmp_path: Path, machines: FakeMachines) -> AsyncIterator[Stage]:
    async with on_stage(fake_api, tmp_path, lambda platform: kubevirt.controllers(platform, {"sandbox": machines})) as stage:
        yield stage


async def run_vm(stage: Stage, strategy: str = "Always", **spec: object) -> None:
    put_network(stage)
    vm = make_vm(strategy)
    vm["spec"]["template"]["spec"].update(spec)
    del vm["metadata"]["uid"], vm["status"]
    stage.put(MACHINES, vm)
    await bind(stage)
    await stage.until(lambda: phase(stage) == "Running", "a running machine")


def ready(stage: Stage) -> JsonObject:
    return find_condition(stage.get(INSTANCES, "web", "shop"), "Ready") or {}


async def test_a_readiness_probe_decides_over_instance_and_pod(stage: Stage, machines: FakeMachines) -> None:
    control = Control(1)
    machines.control = control
    await run_vm(stage, readinessProbe=EXEC)
    await stage.until(lambda: "exit code 1" in ready(stage).get("message", ""), "the probe to fail")
    assert (ready(stage)["status"], ready(stage)["reason"]) == ("False", "ContainersNotReady")
    assert not is_true(pods(stage)[0], "Ready")
    control.code = 0
    await stage.until(lambda: is_true(pods(stage)[0], "Ready") and ready(stage)["status"] == "True", "the probe to succeed")
    control.code = 1
    await stage.until(lambda: ready(stage)["status"] == "False", "the probe to fail again")
    # A machine that stands still is asked nothing, and its pause is what is said of it.
    uid = stage.get(INSTANCES, "web", "shop")["metadata"]["uid"]
    machines.states[uid] = replace(machines.states[uid], phase="paused", reason="PausedByUser", message="paused")
    machines.changed(uid)
    await stage.until(lambda: ready(stage)["reason"] == "GuestNotRunning", "the pause")
    asked = len(control.ran)
    await stage.settled()
    assert len(control.ran) <= asked + 1
    assert phase(stage) == "Running", "a probe of readiness ends nothing"


async def test_a_liveness_probe_ends_the_instance_as_failed(stage: Stage, machines: FakeMachines) -> None:
    machines.control = Control(1)
    await run_vm(stage, "Once", livenessProbe=EXEC, terminationGracePeriodSeconds=1)
    await stage.until(lambda: phase(stage) == "Failed", "the end")
    assert ready(stage)["reason"] == DEAD
    assert "exit code 1" in ready(stage)["message"]
    assert "stop 1" in machines.calls, "the guest was asked to power off first"
    await stage.until(lambda: (pods(stage)[0].get("status") or {}).get("phase") == "Failed", "the Pod to end")


async def test_an_engine_that_came_in_between_goes_on_with_the_end(stage: Stage, machines: FakeMachines) -> None:
    await run_vm(stage, "Once", livenessProbe={"guestAgentPing": {}, "initialDelaySeconds": 2_000_000_000})
    vmi = stage.get(INSTANCES, "web", "shop")
    conditions = [{"type": "Ready", "status": "False", "reason": DEAD, "message": "the liveness probe has failed: before"}]
    stage.put(INSTANCES, {**vmi, "status": {**vmi["status"], "conditions": conditions}})
    await stage.until(lambda: phase(stage) == "Failed", "the end")
    assert ready(stage)["message"] == "the liveness probe has failed: before"


async def test_a_probe_that_asks_nothing_is_refused(stage: Stage) -> None:
    put_network(stage)
    vm = make_vm()
    vm["spec"]["template"]["spec"]["readinessProbe"] = {"periodSeconds": 1}
    del vm["metadata"]["uid"], vm["status"]
    stage.put(MACHINES, vm)
    await stage.until(lambda: find_condition(find_vmi(stage) or {}, "Synchronized"), "the refusal")
    assert "nothing to ask" in (find_condition(stage.get(INSTANCES, "web", "shop"), "Synchronized") or {})["message"]


async def test_keys_by_the_seed_and_by_the_agent(stage: Stage, machines: FakeMachines) -> None:
    guest = Guest()
    machines.control = guest
    source = {"secret": {"secretName": "keys"}}
    credentials = [
        {"sshPublicKey": {"propagationMethod": {"noCloud": {}}, "source": source}},
        {"sshPublicKey": {"propagationMethod": {"qemuGuestAgent": {"users": ["root"]}}, "source": source}},
    ]
    vm = make_vm()
    volumes = [*vm["spec"]["template"]["spec"]["volumes"][:1], {"name": "seed", "cloudInitNoCloud": {"userData": "#cloud-config"}}]
    put_network(stage)
    vm["spec"]["template"]["spec"].update(accessCredentials=credentials, volumes=volumes)
    del vm["metadata"]["uid"], vm["status"]
    stage.put(MACHINES, vm)
    await bind(stage)
    await stage.until(lambda: "does not exist" in ready(stage).get("message", ""), "the missing Secret to be named")
    put_keys(stage, "ssh-ed25519 AAAA a")
    await stage.until(lambda: phase(stage) == "Running", "a running machine")
    uid = stage.get(INSTANCES, "web", "shop")["metadata"]["uid"]
    (seed,) = [volume for volume in machines.specs[uid].volumes if isinstance(volume, CloudInitDisk)]
    assert seed.public_keys == ("ssh-ed25519 AAAA a",)
    machines.states[uid] = replace(machines.states[uid], agent=True)
    machines.changed(uid)
    await stage.until(lambda: guest.keys["root"] == ["ssh-ed25519 AAAA a"], "the keys in the guest")
    await stage.until(lambda: is_true(stage.get(INSTANCES, "web", "shop"), "AccessCredentialsSynchronized"), "the condition")
    put_keys(stage, "ssh-ed25519 BBBB b")
    await stage.until(lambda: guest.keys["root"] == ["ssh-ed25519 BBBB b"], "the new keys in the guest")


def put_keys(stage: Stage, text: str) -> None:
    data = {"key": base64.b64encode(text.encode()).decode()}
    # The label stands for what a real API server does: Secrets have no generation there.
    stage.put(SECRETS, {"metadata": {"name": "keys", "namespace": "shop", "labels": {"holds": text[-1]}}, "data": data})
