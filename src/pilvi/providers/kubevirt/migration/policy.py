"""How a machine moves: the MigrationPolicy that is for it, chosen as KubeVirt does (pkg/util/migrations), and defaults. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pilvi.api.resource import JsonObject
from pilvi.lib.quantity import quantity_bytes
from pilvi.providers.kubevirt.machines.moves import MoveSettings

__all__ = ["COMPLETION_S_PER_GIB", "MOST_AT_ONCE", "MOST_OUT_OF_A_HOST", "Rules", "choose_policy", "rules_of"]

MOST_AT_ONCE = 5
MOST_OUT_OF_A_HOST = 2
COMPLETION_S_PER_GIB = 150
_GIB = 1 << 30


@dataclass(frozen=True)
class Rules:
    """What holds for one move: how memory is copied, how long it may take, and whether the guest is paused when it takes longer."""

    settings: MoveSettings
    longest_s: float
    may_pause: bool
    configuration: JsonObject


def choose_policy(policies: Iterable[JsonObject], vmi_labels: JsonObject, namespace_labels: JsonObject) -> JsonObject | None:
    """The policy whose selectors all hold and name the most labels; of equals the first by name."""

    def weight(policy: JsonObject) -> int:
        selectors = policy["spec"].get("selectors") or {}
        pairs = [
            (selectors.get("virtualMachineInstanceSelector") or {}, vmi_labels),
            (selectors.get("namespaceSelector") or {}, namespace_labels),
        ]
        if any(labels.get(name) != value for selector, labels in pairs for name, value in selector.items()):
            return 0
        return sum(len(selector) for selector, _ in pairs)

    found = sorted((policy for policy in policies if weight(policy)), key=lambda policy: (-weight(policy), str(policy["metadata"]["name"])))
    return found[0] if found else None


def rules_of(policy: JsonObject | None, memory_bytes: int) -> Rules:
    """What `policy` says, with KubeVirt's defaults where it, or everybody, is silent."""
    spec = (policy or {}).get("spec") or {}
    bandwidth = quantity_bytes(spec["bandwidthPerMigration"]) if spec.get("bandwidthPerMigration") is not None else 0
    converge, may_pause = bool(spec.get("allowAutoConverge")), bool(spec.get("allowWorkloadDisruption"))
    per_gib = spec.get("completionTimeoutPerGiB")
    per_gib = COMPLETION_S_PER_GIB if per_gib is None else int(per_gib)
    downtime_ms = int(spec.get("maxDowntimeMs") or MoveSettings.downtime_ms)
    return Rules(
        settings=MoveSettings(bandwidth, downtime_ms, converge),
        longest_s=per_gib * max(1.0, memory_bytes / _GIB) if per_gib else 0.0,
        may_pause=may_pause,
        configuration={
            "allowAutoConverge": converge,
            "allowPostCopy": False,
            "allowWorkloadDisruption": may_pause,
            "bandwidthPerMigration": str(bandwidth),
            "completionTimeoutPerGiB": per_gib,
            "parallelMigrationsPerCluster": MOST_AT_ONCE,
            "parallelOutboundMigrationsPerNode": MOST_OUT_OF_A_HOST,
        },
    )
