"""A machine is kept as it is while it runs, brought back, and made a second time: by the examples, with the data in the guest looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cloud import CloudUnderTest, find_condition, is_true, wait_until
from tests.e2e.guests import console, push_guest
from tests.images.registry import registry_in_thread

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    with registry_in_thread() as registry:
        yield push_guest(registry)


def manifests(name: str, namespace: str) -> list[dict[str, Any]]:
    found = list(yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()))
    for manifest in found:
        manifest["metadata"]["namespace"] = namespace
    return found


def power(cloud: CloudUnderTest, namespace: str, name: str, strategy: str) -> None:
    patch = f'{{"spec":{{"runStrategy":"{strategy}"}}}}'
    cloud.kubectl("-n", namespace, "patch", "vm", name, "--type=merge", "-p", patch)
    if strategy == "Halted":
        wait_until(lambda: not cloud.exists("-n", namespace, "vmi", name), f"{name} to stop")
    else:
        wait_until(lambda: is_ready(cloud, namespace, "vmi", name), f"{name} to run")


def identity(cloud: CloudUnderTest, namespace: str, name: str) -> tuple[str, str]:
    vmi = cloud.get("-n", namespace, "vmi", name)
    return vmi["status"]["interfaces"][0]["mac"], vmi["spec"]["domain"]["firmware"]["uuid"]


def is_ready(cloud: CloudUnderTest, namespace: str, kind: str, name: str) -> bool:
    return is_true(cloud.get("-n", namespace, kind, name), "Ready")


def test_a_machine_is_kept_brought_back_and_cloned(cloud: CloudUnderTest, namespace: str, image: str) -> None:
    disk, machine, snapshot = manifests("vm-snapshot", namespace)
    disk["spec"]["source"]["registry"]["url"] = f"docker://{image}"
    disk["spec"]["storage"]["resources"]["requests"]["storage"] = "512Mi"
    template = machine["spec"]["template"]["spec"]
    template["domain"]["memory"]["guest"] = "192Mi"
    template["volumes"][1]["cloudInitNoCloud"]["userData"] = "#cloud-config\n"
    cloud.apply(disk)
    cloud.apply(machine)
    wait_until(lambda: is_ready(cloud, namespace, "vmi", "notes"), "the machine to run")
    assert console(cloud, namespace, "notes", "echo old > /root/note; cat /root/note") == "old\n"
    wait_until(lambda: is_true(cloud.get("-n", namespace, "vmi", "notes"), "AgentConnected"), "the guest's agent")
    first = identity(cloud, namespace, "notes")

    # Nothing was flushed: that the note is in the copy shows that the guest was frozen.
    cloud.apply(snapshot)
    wait_until(lambda: is_ready(cloud, namespace, "vmsnapshot", "before"), "the snapshot")
    taken = cloud.get("-n", namespace, "vmsnapshot", "before")["status"]
    assert taken["indications"] == ["Online", "GuestAgent"]
    assert taken["snapshotVolumes"] == {"includedVolumes": ["root"], "excludedVolumes": ["cloudinit"]}
    assert console(cloud, namespace, "notes", "echo new > /root/note; sync; cat /root/note") == "new\n", "it was thawed"

    power(cloud, namespace, "notes", "Halted")
    (back,) = manifests("vm-restore", namespace)
    cloud.apply(back)
    wait_until(lambda: is_ready(cloud, namespace, "vmrestore", "back"), "the restore")
    (clone,) = manifests("vm-clone", namespace)
    cloud.apply(clone)
    wait_until(lambda: is_ready(cloud, namespace, "vmclone", "notes-again"), "the clone")

    power(cloud, namespace, "notes-again", "Always")
    assert console(cloud, namespace, "notes-again", "cat /root/note; echo mine > /root/note; sync") == "old\n"
    second = identity(cloud, namespace, "notes-again")
    assert second[0] != first[0]
    assert second[1] != first[1]
    power(cloud, namespace, "notes-again", "Halted")
    power(cloud, namespace, "notes", "Always")
    assert console(cloud, namespace, "notes", "cat /root/note") == "old\n", "the clone has a disk of its own"
    assert identity(cloud, namespace, "notes")[1] == first[1]

    cloud.kubectl("-n", namespace, "delete", "vm", "notes", "notes-again", "--wait")
    cloud.kubectl("-n", namespace, "delete", "vmsnapshot", "before", "--wait")
    cloud.kubectl("-n", namespace, "delete", "datavolume", "notes", "--wait")
    for kind in ("pvc", "volumesnapshots", "vmsnapshotcontents", "vmrestores", "vmclones"):
        wait_until(lambda kind=kind: not cloud.items("-n", namespace, kind), f"all {kind} to go")  # type: ignore[misc]
    wait_until(lambda: not any((cloud.home / "volumes").iterdir()), "the files to go")


def test_a_snapshot_that_cannot_be_made_says_why(cloud: CloudUnderTest, namespace: str) -> None:
    _, _, snapshot = manifests("vm-snapshot", namespace)
    cloud.apply(snapshot)
    told = wait_until(lambda: find_condition(cloud.get("-n", namespace, "vmsnapshot", "before"), "Progressing"), "a word")
    assert told["reason"] == "Source does not exist"
