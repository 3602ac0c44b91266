"""A machine with a whole guest, as its user sees it: address, console, what its agent tells, keys, passwords, probes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilvi.kube import load_kubeconfig
from tests.e2e.cloud import CloudUnderTest, find_condition, is_true, wait_until
from tests.e2e.guests import console, push_guest
from tests.e2e.host import kill_engine
from tests.images.registry import FakeRegistry, registry_in_thread
from tests.virtctl import Virtctl

EXAMPLE = Path(__file__).parents[2] / "examples" / "vm-agent.yaml"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAnotherAnotherAnotherAnotherAnotherAnotherAA another@example.org"


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as made:
        yield made


def manifests(namespace: str, image: str) -> list[dict[str, Any]]:
    """The example with the suite's guest, in less memory."""
    found = list(yaml.safe_load_all(EXAMPLE.read_text()))
    for manifest in found:
        manifest["metadata"]["namespace"] = namespace
    instance = found[-1]["spec"]["template"]["spec"]
    instance["domain"]["memory"]["guest"] = "192Mi"
    instance["terminationGracePeriodSeconds"] = 10
    instance["volumes"][0]["containerDisk"]["image"] = image
    return found


async def ask_agent(cloud: CloudUnderTest, namespace: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    async with Virtctl.connect(load_kubeconfig(cloud.kubeconfig()), namespace) as virtctl:
        return await virtctl.guest_os_info("web"), await virtctl.user_list("web"), await virtctl.fs_list("web")


def test_a_guest_with_its_agent(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry) -> None:
    cloud.apply(manifests(namespace, push_guest(registry)))

    def vmi() -> Any:
        return cloud.get("-n", namespace, "vmi", "web")

    wait_until(lambda: is_true(vmi(), "Ready"), "the guest to have booted, and its probe to succeed")
    assert console(cloud, namespace, "web", "hostname") == "web\n"
    address = vmi()["status"]["interfaces"][0]["ipAddress"]
    assert f"{address}/" in console(cloud, namespace, "web", "ip -4 addr show dev eth0"), "the guest has the machine's lease"

    # What the agent tells.
    told = wait_until(lambda: (found := vmi()["status"]).get("guestOSInfo") and found, "the agent's facts")
    assert told["guestOSInfo"]["id"] == "pilvi-guest"
    assert told["guestOSInfo"]["kernelRelease"]
    console(cloud, namespace, "web", "ip addr add 192.0.2.7/32 dev eth0")
    interface = wait_until(lambda: _with_address(vmi(), "192.0.2.7"), "the address that only the guest knows")
    assert (interface["interfaceName"], interface["infoSource"]) == ("eth0", "domain, guest-agent")
    assert interface["ipAddresses"][0] == interface["ipAddress"] == address
    assert is_true(vmi(), "AgentConnected")
    info, users, file_systems = asyncio.run(ask_agent(cloud, namespace))
    assert info["hostname"] == "web"
    assert "root" in {user["userName"] for user in users["items"]}, "the shell on the console"
    assert "/" in {each["mountPoint"] for each in file_systems["items"]}

    # Keys and passwords.
    wait_until(lambda: is_true(vmi(), "AccessCredentialsSynchronized"), "the credentials to be in the guest")
    assert "me@example.org" in console(cloud, namespace, "web", "cat /root/.ssh/authorized_keys"), "by the seed, for everybody"
    assert "me@example.org" in console(cloud, namespace, "web", "cat /home/debian/.ssh/authorized_keys")
    assert console(cloud, namespace, "web", "grep -c '^debian:[$]' /etc/shadow") == "1\n", "a password is set"
    cloud.kubectl("-n", namespace, "patch", "secret", "web-keys", "-p", f'{{"stringData":{{"mine":"{KEY}"}}}}')
    keys = "cat /home/debian/.ssh/authorized_keys"
    wait_until(lambda: console(cloud, namespace, "web", keys).split() == KEY.split(), "the new key alone")

    # The probe, which an engine that was killed meanwhile does not disturb.
    kill_engine(cloud, for_good=False)
    wait_until(lambda: cloud.kubectl("get", "--raw", "/apis/subresources.kubevirt.io/v1/version"), "the next engine")
    console(cloud, namespace, "web", "rm /run/web-is-up")
    wait_until(lambda: not is_true(vmi(), "Ready"), "the probe to fail")
    unready = find_condition(vmi(), "Ready")
    assert unready["reason"] == "ContainersNotReady"
    assert "test ended with exit code 1" in unready["message"]
    (pod,) = cloud.items("-n", namespace, "pods")
    assert not is_true(pod, "Ready"), "Services turn away"
    console(cloud, namespace, "web", "touch /run/web-is-up")
    wait_until(lambda: is_true(vmi(), "Ready") and is_true(cloud.get("-n", namespace, "vm", "web"), "Ready"), "the probe to succeed")

    # Whatever the agent told goes with it.
    console(cloud, namespace, "web", "killall qemu-ga")
    wait_until(lambda: find_condition(vmi(), "AgentConnected") is None, "the agent to go")
    assert "guestOSInfo" not in vmi()["status"]
    assert find_condition(vmi(), "AccessCredentialsSynchronized")["reason"] == "AgentNotConnected"


def _with_address(vmi: Any, address: str) -> Any:
    interface = vmi["status"]["interfaces"][0]
    return interface if address in interface["ipAddresses"] else None


def test_a_guest_that_does_not_live_is_started_anew(cloud: CloudUnderTest, namespace: str, registry: FakeRegistry) -> None:
    machine = manifests(namespace, push_guest(registry))[-1]
    instance = machine["spec"]["template"]["spec"]
    del instance["accessCredentials"], instance["readinessProbe"]
    # Nobody listens there.
    instance["livenessProbe"] = {"tcpSocket": {"port": 81}, "periodSeconds": 1, "failureThreshold": 2}
    instance["terminationGracePeriodSeconds"] = 0
    cloud.apply(machine)
    first = wait_until(lambda: cloud.items("-n", namespace, "vmi"), "a first run")[0]["metadata"]["uid"]
    wait_until(
        lambda: any(vmi["metadata"]["uid"] != first for vmi in cloud.items("-n", namespace, "vmi")),
        "another run, after the first has failed",
    )
    reasons = {event["reason"] for event in cloud.items("-n", namespace, "events") if event["involvedObject"]["uid"] == first}
    assert "Unhealthy" in reasons
    cloud.kubectl("-n", namespace, "delete", "vm", "web")


def test_more_memory_than_there_is(cloud: CloudUnderTest, namespace: str) -> None:
    machine = manifests(namespace, "registry.invalid/none:1")[-1]
    machine["spec"]["template"]["spec"]["domain"]["memory"]["guest"] = "100Ti"
    del machine["spec"]["template"]["spec"]["accessCredentials"]
    cloud.apply(machine)
    wait_until(
        lambda: cloud.get("-n", namespace, "vm", "web").get("status", {}).get("printableStatus") == "ErrorUnschedulable", "the refusal"
    )
    message = find_condition(cloud.get("-n", namespace, "vmi", "web"), "PodScheduled")["message"]
    assert "no host gives its machines more than" in message
    cloud.kubectl("-n", namespace, "delete", "vm", "web")
