"""What a VirtualMachine is told before it is stored."""

from __future__ import annotations

from pilvi.providers import kubevirt
from tests.unit.providers.checked import refusals
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
