"""What a new platform holds."""

import re

import pytest

from pilvi import kit
from pilvi.plane.default_objects import cluster_class, defaults
from pilvi.plane.down import _stop_order


def test_the_class_names_the_templates_that_come_with_it() -> None:
    cluster, *templates = cluster_class()
    spec = cluster["spec"]
    workers = [part for worker in spec["workers"]["machineDeployments"] for part in (worker["bootstrap"], worker["infrastructure"])]
    named = {
        (part["templateRef"]["kind"], part["templateRef"]["name"]) for part in (spec["infrastructure"], spec["controlPlane"], *workers)
    }
    assert named == {(template["kind"], template["metadata"]["name"]) for template in templates}
    assert all(re.fullmatch(r"pilvi-[0-9a-f]{8}", name) for _, name in named)


def test_every_variable_of_the_class_is_used_by_a_patch() -> None:
    cluster, *_ = cluster_class()
    text = str(cluster["spec"]["patches"])
    for variable in cluster["spec"]["variables"]:
        assert re.search(rf"\.{variable['name']}\b|'variable': '{variable['name']}'", text), variable["name"]


def test_the_default_subnet_lies_in_the_default_vpc() -> None:
    objects = {obj["kind"]: obj for obj in defaults()}
    assert objects["Subnet"]["spec"]["vpc"] == objects["Vpc"]["metadata"]["name"]


@pytest.mark.parametrize(("role", "verbs"), [("view", {"get", "list", "watch"}), ("edit", {"create", "delete", "get", "patch", "update"})])
def test_who_may_export_disks(role: str, verbs: set[str]) -> None:
    """To create one is to read disks: nothing for who only looks."""
    (found,) = [obj for obj in defaults() if obj["kind"] == "ClusterRole" and obj["metadata"]["name"] == f"kubevirt.io:{role}"]
    (rule,) = [rule for rule in found["rules"] if rule["apiGroups"] == ["export.kubevirt.io"]]
    assert rule["resources"] == ["virtualmachineexports"]
    assert verbs <= {*rule["verbs"]}
    assert role == "edit" or {*rule["verbs"]} == verbs


def test_there_is_a_kubernetes_version() -> None:
    assert kit.kubernetes_versions()


@pytest.mark.parametrize("order", [1, -1])
def test_machines_stop_first_and_etcd_last(order: int) -> None:
    names = ["cp-1-etcd", "m-1", "cp-1-kube-apiserver", "capi-core", "plane-etcd"][::order]
    steps = [set(names) for _, names in _stop_order(names)]
    assert steps == [{"m-1", "capi-core"}, {"cp-1-kube-apiserver"}, {"cp-1-etcd", "plane-etcd"}]
