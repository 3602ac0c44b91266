"""The status of a Vpc, as Kube-OVN writes it, with conditions: Ready (the router is up) and Error (what of it is left out, and why)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pilvi.api import JsonObject
from pilvi.providers.kubeovn.names import DEFAULT_VPC
from pilvi.providers.kubeovn.subnet.plan import find_default_subnet
from pilvi.providers.kubeovn.vpc.router import Problem, Router
from pilvi.runtime import condition, conditions_of, merge_conditions

__all__ = ["refused_status", "vpc_status"]


def vpc_status(
    vpc: JsonObject, router: Router, netns: str, problems: Iterable[Problem], failure: str | None, *, now: datetime | None = None
) -> JsonObject:
    """`status` after one run. `failure` is why the router could not be made or changed; what it was before stays as it is then."""
    metadata = vpc["metadata"]
    before = vpc.get("status") or {}
    name = metadata["name"]
    generation = metadata.get("generation") if failure is None else None
    found = sorted(problems)
    words = ("Incomplete" if len({problem.reason for problem in found}) > 1 else found[0].reason) if found else "NoError"
    default_subnet = (vpc.get("spec") or {}).get("defaultSubnet") or ""
    if not default_subnet and name == DEFAULT_VPC and (plan := find_default_subnet(router.subnets)):
        default_subnet = plan.name
    return {
        "default": name == DEFAULT_VPC,
        "defaultLogicalSwitch": default_subnet,
        # Without one that failed, the router is there; a failed change leaves one that was there before at work.
        "standby": failure is None or bool(before.get("standby")),
        "router": netns,
        "subnets": [subnet.name for subnet in router.subnets] if failure is None else before.get("subnets") or [],
        "conditions": merge_conditions(
            conditions_of(vpc),
            [
                condition(
                    "Ready",
                    failure is None,
                    "RouterUp" if failure is None else "RouterFailed",
                    failure or "",
                    observed_generation=generation,
                ),
                condition("Error", bool(found), words, "; ".join(problem.message for problem in found), observed_generation=generation),
            ],
            now=now,
        ),
    }


def refused_status(vpc: JsonObject, reason: str, message: str, *, now: datetime | None = None) -> JsonObject:
    """`status` of a Vpc that gets no router; what stands there beside is kept."""
    refused = condition("Ready", False, reason, message)
    return {**(vpc.get("status") or {}), "standby": False, "conditions": merge_conditions(conditions_of(vpc), [refused], now=now)}
