"""What decides about moves, each a pure function: obstacles, policies, the order of migrations, evictions, the Pod that counts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.providers.kubevirt.instance.pod import launcher_name
from pilvi.providers.kubevirt.machines.moves import MoveSettings
from pilvi.providers.kubevirt.migration.evacuation import plan_eviction
from pilvi.providers.kubevirt.migration.obstacle import find_obstacle
from pilvi.providers.kubevirt.migration.policy import choose_policy, rules_of
from pilvi.providers.kubevirt.migration.queue import find_hindrance, find_unfinished
from pilvi.providers.kubevirt.migration.state import active_pod, begun, ended, is_under_way
from pilvi.providers.kubevirt.migration.target import new_target, target_name
from pilvi.providers.kubevirt.virtualhost.hosts import host_names
from pilvi.providers.status import merge_patch
from tests.unit.providers.kubevirt.objects import UID, make_vmi

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 1 << 30


def make_migration(name: str = "move", phase: str = "", *, vmi: str = "web", made: str = "2026-01-01T00:00:00Z", **spec: Any) -> JsonObject:
    return {
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-{name}", "creationTimestamp": made},
        "spec": {"vmiName": vmi, **spec},
        "status": {"phase": phase},
    }


def make_claim(*modes: str) -> JsonObject:
    return {"metadata": {"name": "data", "namespace": "shop"}, "spec": {"accessModes": list(modes)}}


CLAIM = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}


@pytest.mark.parametrize(
    ("devices", "volumes", "modes", "hosts", "sandbox", "reason"),
    [
        ({}, [], [], 2, False, None),
        ({}, [], [], 1, False, "OneHost"),
        ({}, [], [], 2, True, "Sandbox"),
        ({}, [CLAIM], ["ReadWriteOnce"], 2, False, "DisksNotLiveMigratable"),
        ({}, [CLAIM], ["ReadWriteMany"], 2, False, None),
        ({}, [CLAIM], ["ReadWriteOnce", "ReadWriteMany"], 2, False, None),
        ({}, [{"name": "data", "dataVolume": {"name": "data"}}], ["ReadWriteOnce"], 2, False, "DisksNotLiveMigratable"),
        ({}, [{"name": "data", "ephemeral": {"persistentVolumeClaim": {"claimName": "data"}}}], ["ReadWriteOnce"], 2, False, None),
        ({}, [{"name": "root", "containerDisk": {"image": "a"}}, {"name": "empty", "emptyDisk": {}}], [], 2, False, None),
        ({"tpm": {}}, [], [], 2, False, "TPMNotLiveMigratable"),
        ({"gpus": [{"name": "a"}]}, [], [], 2, False, "HostDeviceNotLiveMigratable"),
        ({"filesystems": [{"name": "a", "virtiofs": {}}]}, [], [], 2, False, "DisksNotLiveMigratable"),
    ],
)
def test_what_stands_in_the_way(
    devices: JsonObject, volumes: list[JsonObject], modes: list[str], hosts: int, sandbox: bool, reason: str | None
) -> None:
    vmi = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"domain": {"devices": devices}, "volumes": volumes}}
    claims = {Key("shop", "data"): make_claim(*modes)}
    found = find_obstacle(vmi, claims.get, hosts, sandbox=sandbox)
    assert (found.reason if found else None) == reason


def test_a_claim_that_is_not_there_does_not_move() -> None:
    vmi = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"volumes": [CLAIM]}}
    found = find_obstacle(vmi, lambda _key: None, 2, sandbox=False)
    assert found is not None
    assert "data" in found.message


def make_policy(name: str, vmi: JsonObject | None = None, namespace: JsonObject | None = None, **spec: Any) -> JsonObject:
    selectors = {"virtualMachineInstanceSelector": vmi or {}, "namespaceSelector": namespace or {}}
    return {"metadata": {"name": name}, "spec": {"selectors": selectors, **spec}}


@pytest.mark.parametrize(
    ("policies", "chosen"),
    [
        ([], None),
        ([make_policy("for-nobody")], None),
        ([make_policy("other", {"app": "db"})], None),
        ([make_policy("one", {"app": "web"})], "one"),
        ([make_policy("one", {"app": "web"}), make_policy("two", {"app": "web"}, {"team": "a"})], "two"),
        ([make_policy("half", {"app": "web"}, {"team": "b"}), make_policy("whole", namespace={"team": "a"})], "whole"),
        ([make_policy("b", {"app": "web"}), make_policy("a", {"app": "web"})], "a"),
    ],
)
def test_the_policy_that_names_the_most_labels_counts(policies: list[JsonObject], chosen: str | None) -> None:
    policy = choose_policy(policies, {"app": "web", "tier": "front"}, {"team": "a"})
    assert (policy["metadata"]["name"] if policy else None) == chosen


def test_what_a_policy_says_and_what_holds_without() -> None:
    usual = rules_of(None, GIB // 2)
    assert (usual.settings, usual.longest_s, usual.may_pause) == (MoveSettings(0, 300, False), 150, False)
    assert rules_of(None, 4 * GIB).longest_s == 600
    fields = {
        "bandwidthPerMigration": "64Mi",
        "maxDowntimeMs": 50,
        "completionTimeoutPerGiB": 10,
        "allowAutoConverge": True,
        "allowWorkloadDisruption": True,
    }
    rules = rules_of(make_policy("a", **fields), 2 * GIB)
    assert (rules.settings, rules.longest_s, rules.may_pause) == (MoveSettings(64 << 20, 50, True), 20, True)
    assert rules_of(make_policy("a", completionTimeoutPerGiB=0), GIB).longest_s == 0, "no limit"


def nodes_of(**nodes: str) -> dict[Key, JsonObject]:
    return {Key("shop", name): {"status": {"nodeName": node}} for name, node in nodes.items()}


@pytest.mark.parametrize(
    ("others", "hindrance"),
    [
        ([], ""),
        ([make_migration("a", "Succeeded"), make_migration("b", "Failed")], ""),
        ([make_migration("a", "Running")], "another migration"),
        ([make_migration("a", "Pending", made="2025-01-01T00:00:00Z")], "another migration"),
        ([make_migration("a", "Pending", made="2027-01-01T00:00:00Z")], ""),
        ([make_migration(name, "Running", vmi=f"far-{name}") for name in "abcd"], ""),
        ([make_migration(name, "Running", vmi=f"far-{name}") for name in "abcde"], "5 migrations"),
        ([make_migration(name, "Running", vmi=f"near-{name}") for name in "ab"], "2 machines are leaving"),
        ([make_migration("a", "Running", vmi="near-a"), make_migration("b", "", vmi="near-b", made="2025-01-01T00:00:00Z")], "2 machines"),
    ],
)
def test_the_order_of_migrations(others: list[JsonObject], hindrance: str) -> None:
    mine = make_migration("mine", "Pending")
    machines = {Key("shop", f"{place}-{name}"): {"status": {"nodeName": place}} for place in ("near", "far") for name in "abcde"}
    found = find_hindrance(mine, make_vmi("Running", nodeName="near"), [mine, *others], machines.get)
    assert found.startswith(hindrance)
    assert bool(found) == bool(hindrance)


def test_a_migration_stays_with_the_run_that_it_began_with() -> None:
    mine, other = make_migration("mine", "Running"), make_migration("other", "Running")
    mine["status"]["migrationState"] = {"sourceState": {"virtualMachineInstanceUID": UID}}
    other["status"]["migrationState"] = {"sourceState": {"virtualMachineInstanceUID": "an earlier one"}}
    waiting = make_migration("waiting", "Pending")
    assert find_unfinished(make_vmi("Running"), [mine, other, waiting]) == [mine, waiting]


def patched(vmi: JsonObject, patch: JsonObject) -> JsonObject:
    """As the API server merges: None takes away."""

    def merge(old: Any, new: Any) -> Any:
        if not isinstance(new, dict):
            return new
        merged = dict(old) if isinstance(old, dict) else {}
        for name, value in new.items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = merge(merged.get(name), value)
        return merged

    return {**vmi, "status": merge(vmi["status"], patch)}


def test_the_pod_that_counts_through_two_moves() -> None:
    vmi = make_vmi("Running", nodeName="a")
    first = active_pod(vmi)
    assert first == launcher_name(vmi)
    for number, (node, succeeds) in enumerate([("b", True), ("a", False), ("a", True)]):
        before = active_pod(vmi)
        migration = make_migration(f"move-{number}")
        target = {"metadata": {"name": target_name(vmi, migration), "uid": f"pod-{number}"}, "spec": {"nodeName": node}}
        vmi = patched(vmi, begun(vmi, migration, target, {}, None, NOW))
        assert is_under_way(vmi)
        assert active_pod(vmi) == before, "until the guest has moved"
        assert "failed" not in vmi["status"]["migrationState"], "nothing of an earlier move is left"
        vmi = patched(vmi, ended(vmi, target, NOW) if succeeds else ended(vmi, None, NOW, failure="no", aborted=True))
        assert not is_under_way(vmi)
        assert active_pod(vmi) == (target["metadata"]["name"] if succeeds else before)
    assert vmi["status"]["nodeName"] == "a"
    assert len({first, *[target_name(vmi, make_migration(f"move-{n}")) for n in range(3)]}) == 4


def test_the_end_of_a_move_ends_the_evacuation() -> None:
    vmi = make_vmi("Running", nodeName="a", evacuationNodeName="a")
    assert "evacuationNodeName" not in patched(vmi, ended(vmi, {"spec": {"nodeName": "b"}}, NOW))["status"]
    assert "evacuationNodeName" in patched(vmi, ended(vmi, None, NOW, failure="no"))["status"]


def test_the_target_is_elsewhere_and_where_it_was_asked_for() -> None:
    vmi = make_vmi("Running")
    mine = {"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": "zone"}
    vmi["spec"]["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [mine]}}
    vmi["spec"]["nodeSelector"] = {"disk": "fast"}
    migration = make_migration("move", addedNodeSelector={"rack": "2"})
    pod = new_target(vmi, migration, "image", 0)
    terms = pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms[0] == mine
    assert terms[1]["labelSelector"]["matchLabels"] == {"kubevirt.io/created-by": UID}
    assert terms[1]["topologyKey"] == "kubernetes.io/hostname"
    assert pod["spec"]["nodeSelector"] == {"disk": "fast", "rack": "2", "kubevirt.io/schedulable": "true"}
    assert len(vmi["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]) == 1, "the machine's own stays"


@pytest.mark.parametrize(
    ("strategy", "migratable", "marked", "marks", "refusal"),
    [
        (None, True, False, False, ""),
        ("None", True, False, False, ""),
        ("LiveMigrate", True, False, True, "triggered evacuation"),
        ("LiveMigrate", True, True, False, "in progress"),
        ("LiveMigrate", False, False, False, "not live-migratable"),
        ("LiveMigrateIfPossible", True, False, True, "triggered evacuation"),
        ("LiveMigrateIfPossible", False, False, False, ""),
        ("External", False, False, True, "triggered evacuation"),
    ],
)
def test_what_an_eviction_is_answered(strategy: str | None, migratable: bool, marked: bool, marks: bool, refusal: str) -> None:
    conditions = [{"type": "LiveMigratable", "status": str(migratable)}]
    vmi = make_vmi("Running", nodeName="a", conditions=conditions, **({"evacuationNodeName": "a"} if marked else {}))
    if strategy is not None:
        vmi["spec"]["evictionStrategy"] = strategy
    mark, said = plan_eviction(vmi, active_pod(vmi))
    assert mark is marks
    assert refusal in said
    assert bool(said) == bool(refusal)
    assert plan_eviction(vmi, "virt-launcher-web-other") == (False, ""), "a Pod that is not the machine's any more"
    for over in (make_vmi("Failed"), make_vmi("Running", deleting=True)):
        assert plan_eviction({**over, "spec": vmi["spec"]}, active_pod(over)) == (False, "")


def test_the_first_host_keeps_its_name() -> None:
    assert [host_names("box", count) for count in (1, 2, 3)] == [("box",), ("box", "box-2"), ("box", "box-2", "box-3")]


def test_a_merge_patch_leaves_a_move_that_is_written_meanwhile() -> None:
    before = make_vmi("Running", nodeName="a")["status"]
    assert "migrationState" not in merge_patch(before, {**before, "qosClass": "Burstable"})
