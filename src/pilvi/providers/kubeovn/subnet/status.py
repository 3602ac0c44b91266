"""The status of a Subnet, from one look at the objects. Types of the conditions as in Kube-OVN: Validated, Ready, Error."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address

from pilvi.api import JsonObject
from pilvi.providers.kubeovn.subnet.addresses import count_addresses, format_ranges, free_ranges, merge_addresses
from pilvi.providers.kubeovn.subnet.plan import Refusal, SubnetPlan, find_stranger
from pilvi.runtime import condition, conditions_of, merge_conditions

__all__ = ["SubnetScope", "subnet_status", "vpc_missing"]


@dataclass(frozen=True)
class SubnetScope:
    """One Subnet, what it asks for, the addresses that IP objects hold in it, and its Vpc (None when there is none)."""

    subnet: JsonObject
    plan: SubnetPlan | Refusal
    used: Collection[IPv4Address]
    vpc: JsonObject | None


def subnet_status(scope: SubnetScope, *, now: datetime | None = None) -> JsonObject:
    """`status` as it has to be; equal to the stored one when nothing changed."""
    plan = scope.plan
    used = merge_addresses(scope.used)
    free = free_ranges(plan, scope.used) if isinstance(plan, SubnetPlan) else []
    return {
        "v4availableIPs": count_addresses(free),
        "v4availableIPrange": format_ranges(free),
        "v4usingIPs": len(scope.used),
        "v4usingIPrange": format_ranges(used),
        "conditions": merge_conditions(conditions_of(scope.subnet), _conditions(scope, bool(free)), now=now),
    }


def _conditions(scope: SubnetScope, has_free: bool) -> list[JsonObject]:
    generation = scope.subnet["metadata"].get("generation")
    validated, ready, error = _judge(scope, has_free)
    return [
        condition("Validated", validated is None, *_words(validated, "Valid"), observed_generation=generation),
        condition("Ready", ready is None, *_words(ready, "Routed"), observed_generation=generation),
        condition("Error", error is not None, *_words(error, "NoError"), observed_generation=generation),
    ]


def _words(problem: Refusal | None, success: str) -> tuple[str, str]:
    return (problem.reason, problem.message) if problem is not None else (success, "")


def vpc_missing(plan: SubnetPlan) -> Refusal:
    """What to say when the Vpc of a Subnet does not exist."""
    return Refusal("VpcNotFound", f"spec.vpc: there is no Vpc {plan.vpc}; create it, or name another in a new Subnet")


def _judge(scope: SubnetScope, has_free: bool) -> tuple[Refusal | None, Refusal | None, Refusal | None]:
    """What stands against validity, readiness, and full service."""
    plan = scope.plan
    if isinstance(plan, Refusal):
        return plan, plan, plan
    moved = find_stranger(plan, scope.used)
    if moved is not None:
        return moved, moved, moved
    name = plan.name
    if scope.vpc is None:
        missing = vpc_missing(plan)
        return None, missing, missing
    status = scope.vpc.get("status") or {}
    if not status.get("standby") or name not in (status.get("subnets") or ()):
        return None, Refusal("RouterNotReady", f"the router of Vpc {plan.vpc} has not taken the subnet up yet; see its conditions"), None
    if not has_free:
        return None, None, Refusal("NoAvailableAddress", f"no free address in {plan.cidr}: delete machines or shorten spec.excludeIps")
    return None, None, None
