"""vCPUs of an instancetype as sockets, cores and threads, as a preference likes them. Pure."""

from __future__ import annotations

from pilvi.api import JsonObject

__all__ = ["find_spread_fault", "plan_topology", "preferred_topology", "spread_across"]

_THREADS_PER_CORE = 2
_RATIO = 2


def preferred_topology(preference: JsonObject | None) -> str:
    """sockets, cores, threads, spread or any; KubeVirt's old names (preferCores) mean the same."""
    word = ((preference or {}).get("cpu") or {}).get("preferredCPUTopology") or "sockets"
    return str(word).removeprefix("prefer").lower()


def spread_across(preference: JsonObject | None) -> str:
    """What `spread` divides: SocketsCores, CoresThreads or SocketsCoresThreads."""
    return _spread_options(preference).get("across") or "SocketsCores"


def plan_topology(vcpus: int, preference: JsonObject | None) -> dict[str, int]:
    """`sockets`, `cores` and `threads` that make `vcpus`. A number that `spread` cannot divide is for `find_spread_fault`."""
    plain = {"sockets": 1, "cores": 1, "threads": 1}
    topology = preferred_topology(preference)
    if vcpus == 1:
        return plain
    if topology != "spread":
        return {**plain, ("sockets" if topology == "any" else topology): vcpus}
    ratio = _ratio(preference)
    match spread_across(preference):
        case "CoresThreads":
            return {"sockets": 1, "cores": vcpus // ratio, "threads": ratio}
        case "SocketsCoresThreads":
            return {"sockets": vcpus // _THREADS_PER_CORE // ratio, "cores": ratio, "threads": _THREADS_PER_CORE}
        case _:
            return {"sockets": vcpus // ratio, "cores": ratio, "threads": 1}


def find_spread_fault(vcpus: int, preference: JsonObject | None) -> str | None:
    """Why the preference cannot spread so many vCPUs; None when it can."""
    if preferred_topology(preference) != "spread":
        return None
    planned = plan_topology(vcpus, preference)
    if planned["sockets"] * planned["cores"] * planned["threads"] == vcpus:
        return None
    across, ratio = spread_across(preference), _ratio(preference)
    threads = f"{_THREADS_PER_CORE} threads per core and " if across == "SocketsCoresThreads" else ""
    return (
        f"{vcpus} vCPUs provided by the instance type are not divisible by {threads}the ratio of {ratio} provided by the preference"
        f" (spread across {across}); take another instancetype, or another ratio"
    )


def _ratio(preference: JsonObject | None) -> int:
    return int(_spread_options(preference).get("ratio") or (preference or {}).get("preferSpreadSocketToCoreRatio") or _RATIO)


def _spread_options(preference: JsonObject | None) -> JsonObject:
    return ((preference or {}).get("cpu") or {}).get("spreadOptions") or {}
