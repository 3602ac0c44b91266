"""What a VirtualMachine is told before it is stored."""

from __future__ import annotations

from pilvi.api import JsonObject
from pilvi.providers import kubevirt
from tests.unit.providers.checked import refusals, warnings
from tests.unit.providers.kubeovn.objects import CLOUD
from tests.unit.providers.kubevirt.objects import make_vm, make_vmi


def test_an_instance_of_somebody_else_is_in_the_way() -> None:
    (message,) = refusals(kubevirt, CLOUD, make_vm(), make_vmi("Running"))
    assert "a VirtualMachineInstance web that is not this machine's is in the way; delete it" in message


def test_nothing_is_in_the_way() -> None:
    own = make_vmi("Running")
    own["metadata"]["ownerReferences"] = [{"kind": "VirtualMachine", "name": "web", "uid": "vm-uid", "controller": True}]
    assert refusals(kubevirt, CLOUD, make_vm(), own) == []
    assert refusals(kubevirt, CLOUD, make_vm(), make_vmi("Running", deleting=True)) == []
    assert refusals(kubevirt, CLOUD, make_vm("Halted"), make_vmi("Running")) == [], "it is not to run yet"


def migration(name: str, phase: str = "") -> JsonObject:
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{name}"}
    kind = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration"}
    return {**kind, "metadata": metadata, "spec": {"vmiName": "web"}, "status": {"phase": phase}}


def test_one_migration_of_a_machine_at_a_time() -> None:
    (message,) = refusals(kubevirt, CLOUD, migration("second"), make_vmi("Running"), migration("first", "Running"))
    assert "in-flight migration detected" in message
    assert refusals(kubevirt, CLOUD, migration("second"), make_vmi("Running"), migration("first", "Succeeded")) == []
    assert refusals(kubevirt, CLOUD, migration("first", "Running"), make_vmi("Running"), migration("first", "Running")) == []


def test_a_machine_that_cannot_move_any_more() -> None:
    (message,) = refusals(kubevirt, CLOUD, migration("move"), make_vmi("Failed"))
    assert "has ended" in message


def test_a_machine_that_is_not_there_yet_is_awaited() -> None:
    assert refusals(kubevirt, CLOUD, migration("move")) == []
    (message,) = warnings(kubevirt, CLOUD, migration("move"))
    assert "waits until it runs" in message
