"""What is said of a machine whose disks are made by others, and of one that is too large."""

from __future__ import annotations

import pytest

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.instance.datavolumes import plan_data_volumes
from pilvi.providers.kubevirt.instance.shortage import describe_shortage
from pilvi.providers.kubevirt.instance.status import Report, plan_status
from pilvi.providers.kubevirt.virtualmachine.disks import NO_DISKS, Disks, look_at_disks
from pilvi.providers.kubevirt.virtualmachine.status import printable_status
from tests.unit.providers.kubevirt.objects import make_vm, make_vmi
from tests.unit.providers.kubevirt.test_machine_status import NOW, condition

VOLUMES = [{"name": "root", "dataVolume": {"name": "root"}}, {"name": "more", "persistentVolumeClaim": {"claimName": "more"}}]


def data_volume(phase: str, *conditions: JsonObject) -> JsonObject:
    return {"metadata": {"name": "root"}, "status": {"phase": phase, "conditions": list(conditions)}}


def vm_with_disks(strategy: str = "Always") -> JsonObject:
    vm = make_vm(strategy)
    vm["spec"]["template"]["spec"]["volumes"] = VOLUMES
    return vm


@pytest.mark.parametrize(
    ("made", "claims", "disks"),
    [
        (None, {}, NO_DISKS),
        (data_volume("Succeeded"), {"root": "Bound", "more": "Bound"}, NO_DISKS),
        (data_volume("WaitForFirstConsumer"), {"root": "Pending"}, Disks(unbound=True)),
        (data_volume("ImportInProgress"), {"root": "Pending"}, Disks(provisioning=True, unbound=True)),
        (data_volume("RebindInProgress"), {"root": "Pending"}, Disks(provisioning=True, unbound=True)),
        (data_volume("Succeeded"), {"root": "Bound", "more": "Pending"}, Disks(unbound=True)),
        (data_volume("Failed"), {"root": "Pending"}, Disks(failed=True, unbound=True)),
        (
            data_volume("ImportScheduled", condition("Running", "False", "TransferFailed")),
            {"root": "Pending"},
            Disks(failed=True, provisioning=True, unbound=True),
        ),
        (data_volume("ImportInProgress", condition("Running", "True", "NoSpace")), {"root": "Bound"}, Disks(provisioning=True)),
        (data_volume("Pending", condition("Ready", "False", "StorageClassNotFound")), {}, Disks(failed=True)),
        (data_volume("Pending", condition("Ready", "False", "CloneSourceInUse")), {}, NO_DISKS),
    ],
)
def test_how_it_stands_with_the_disks(made: JsonObject | None, claims: dict[str, str], disks: Disks) -> None:
    found = {name: {"status": {"phase": phase}} for name, phase in claims.items()}
    assert look_at_disks(vm_with_disks(), lambda key: found.get(key.name), lambda key: made if key.name == "root" else None) == disks


def test_disks_of_templates_count_before_a_volume_names_them() -> None:
    vm = make_vm("Always")
    vm["spec"]["dataVolumeTemplates"] = [{"metadata": {"name": "root"}}]
    assert look_at_disks(vm, lambda _key: None, lambda _key: data_volume("ImportInProgress")) == Disks(provisioning=True)


ALL = Disks(failed=True, provisioning=True, unbound=True)
FILLING = Disks(provisioning=True, unbound=True)
UNBOUND = Disks(unbound=True)
NO_CLAIM = condition("Synchronized", "False", "FailedPvcNotFound")
NO_ROOM = condition("PodScheduled", "False", "Unschedulable")
NO_IMAGE = condition("Synchronized", "False", "ErrImagePull")


@pytest.mark.parametrize(
    ("conditions", "disks", "word"),
    [
        ([NO_CLAIM], ALL, "ErrorPvcNotFound"),
        ([NO_ROOM], ALL, "DataVolumeError"),
        ([NO_ROOM], FILLING, "ErrorUnschedulable"),
        ([], FILLING, "Provisioning"),
        ([NO_IMAGE], UNBOUND, "WaitingForVolumeBinding"),
        ([], NO_DISKS, "Starting"),
    ],
)
def test_the_order_of_words(conditions: list[JsonObject], disks: Disks, word: str) -> None:
    assert printable_status(make_vm(), make_vmi("Scheduling", conditions=conditions), None, disks) == word


def test_words_of_a_machine_that_does_not_run() -> None:
    assert printable_status(make_vm("Halted"), None, None, FILLING) == "Provisioning"
    assert printable_status(make_vm("Halted"), None, None, UNBOUND) == "Stopped"
    assert printable_status(make_vm(), None, None, UNBOUND) == "WaitingForVolumeBinding"


@pytest.mark.parametrize(
    ("ready", "status"),
    [
        (None, None),
        ([], "Unknown"),
        ([condition("Ready", "False", "Pending", "the volume is awaited")], "False"),
        ([condition("Ready", "True", "Succeeded")], "True"),
    ],
)
def test_data_volumes_ready(ready: list[JsonObject] | None, status: str | None) -> None:
    vmi = make_vmi("Scheduling")
    vmi["spec"]["volumes"] = VOLUMES
    found = plan_data_volumes(vmi, lambda _key: None if ready is None else data_volume("", *ready))
    assert (found and found["status"]) == status
    if status == "False":
        assert found is not None
        assert found["message"] == "DataVolume root: the volume is awaited"


def launcher(memory: str, message: str = "0/1 nodes are available") -> JsonObject:
    return {
        "metadata": {"uid": "p"},
        "spec": {"containers": [{"resources": {"requests": {"memory": memory}}}]},
        "status": {"conditions": [condition("PodScheduled", "False", "Unschedulable", message)]},
    }


def host(memory: str, schedulable: str = "true") -> JsonObject:
    return {"metadata": {"labels": {"kubevirt.io/schedulable": schedulable}}, "status": {"allocatable": {"memory": memory}}}


def test_a_machine_that_no_host_can_take() -> None:
    hosts = [host("8Gi"), host("16Gi"), host("1Ti", "false")]
    assert describe_shortage(launcher("16Gi"), hosts) == ""
    assert describe_shortage(launcher("16Gi"), []) == ""
    assert "needs 17408 MiB" in describe_shortage(launcher("17Gi"), hosts)
    assert "more than 16384 MiB" in describe_shortage(launcher("17Gi"), hosts)


def test_the_scheduler_has_no_word_about_claims() -> None:
    def types(pod: JsonObject) -> list[str]:
        return [entry["type"] for entry in plan_status(make_vmi(""), Report("Scheduling", pod=pod), NOW)["conditions"]]

    assert "PodScheduled" in types(launcher("1Gi"))
    assert "PodScheduled" not in types(launcher("1Gi", 'persistentvolumeclaim "root" not found'))
    assert "PodScheduled" not in types(launcher("1Gi", "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."))
