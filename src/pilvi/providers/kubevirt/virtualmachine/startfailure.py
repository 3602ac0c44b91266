"""The back-off of a machine that dies before it runs, as KubeVirt keeps it in `status.startFailure`. Pure but for the jitter."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from pilvi.api.resource import JsonObject
from pilvi.lib.clock import format_time
from pilvi.providers.kubevirt.virtualmachine.strategy import FINAL_PHASES

__all__ = ["backoff_s", "next_start_failure"]

_MAX_S = 300.0
_RETRYING = ("Always", "RerunOnFailure", "Once")


def backoff_s(failures: int, jitter: float) -> float:
    """Seconds to wait after that many failures in a row: n² x 10 s, plus a share `jitter` (0 to 0.5), at most 300 s."""
    return min(_MAX_S, failures * failures * 10.0 * (1.0 + jitter))


def next_start_failure(strategy: str, old: JsonObject | None, vmi: JsonObject | None, now: datetime) -> JsonObject | None:
    """`status.startFailure` after looking at `vmi`; None means that the field goes away.

    It grows by one for each instance that ended without having run, is forgotten as soon as one runs or when the strategy does
    not retry, and stays while there is no instance or an undecided one.
    """
    if strategy not in _RETRYING:
        return None
    if vmi is None:
        return old
    status = vmi.get("status") or {}
    passed = {entry.get("phase") for entry in status.get("phaseTransitionTimestamps") or []}
    if "Running" in passed or status.get("phase") == "Running":
        return None
    uid = vmi["metadata"]["uid"]
    if status.get("phase") not in FINAL_PHASES or (old or {}).get("lastFailedVMIUID") == uid:
        return old
    failures = int((old or {}).get("consecutiveFailCount") or 0) + 1
    delay_s = backoff_s(failures, random.uniform(0, 0.5))  # noqa: S311 (spreading load, not keeping secrets)
    return {
        "consecutiveFailCount": failures,
        "lastFailedVMIUID": uid,
        "retryAfterTimestamp": format_time(now + timedelta(seconds=delay_s)),
    }
