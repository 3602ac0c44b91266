"""Whether the engine lives, as the API tells it; so it is also known to who is on another machine, or may not look at processes.

The engine renews the Lease of its virtual host every ten seconds (`providers/kubevirt/virtualhost`). It is compared with what others
renew, above all the API server its own Lease, so no clock but the host's counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from pilvi.api import JsonObject
from pilvi.lib.clock import parse_time, utc_now

__all__ = ["ENGINE_AWAY", "find_silence"]

ENGINE_AWAY = "the engine does not run; sudo pilvi up starts it"
LONGEST_SILENCE_S = 25.0
HOST_LABEL = "pilvi.dev/cloud"
_LEASE_NAMESPACE = "kube-node-lease"


def find_silence(nodes: Sequence[JsonObject], leases: Sequence[JsonObject]) -> str:
    """One sentence when no host's Lease was renewed lately; empty when the engine lives, or has never had a host.

    Pure, but for the clock that counts when nobody else renews a Lease.
    """
    hosts = {node["metadata"]["name"] for node in nodes if HOST_LABEL in (node["metadata"].get("labels") or {})}
    renewed = {(lease["metadata"].get("namespace"), lease["metadata"]["name"]): lease["spec"].get("renewTime") for lease in leases}
    times = {key: parse_time(text) for key, text in renewed.items() if text}
    ours = [moment for (namespace, name), moment in times.items() if namespace == _LEASE_NAMESPACE and name in hosts]
    if not ours:
        return ""
    now = max((moment for (namespace, _), moment in times.items() if namespace != _LEASE_NAMESPACE), default=utc_now())
    silence = now - max(ours)
    if silence <= timedelta(seconds=LONGEST_SILENCE_S):
        return ""
    return f"the engine does not run (silent for {silence.total_seconds():.0f} s); sudo pilvi up starts it"
