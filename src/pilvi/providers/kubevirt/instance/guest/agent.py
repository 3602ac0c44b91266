"""Conditions about the guest's agent. Pure. What an agent must know is KubeVirt's list (pkg/virt-handler)."""

from __future__ import annotations

from pilvi.api.resource import JsonObject
from pilvi.providers.kubevirt.machines.guest import GuestFacts
from pilvi.runtime.conditions import condition

__all__ = ["AGENT_CONDITIONS", "plan_agent_conditions"]

AGENT_CONDITIONS = ("AgentConnected", "AgentVersionNotSupported")

_REQUIRED = frozenset(
    {
        "guest-ping",
        "guest-get-time",
        "guest-info",
        "guest-shutdown",
        "guest-network-get-interfaces",
        "guest-get-fsinfo",
        "guest-get-host-name",
        "guest-get-users",
        "guest-get-timezone",
        "guest-get-osinfo",
    }
)
_FOR_KEYS = frozenset({"guest-ssh-get-authorized-keys", "guest-ssh-add-authorized-keys", "guest-ssh-remove-authorized-keys"})
_FOR_PASSWORDS = frozenset({"guest-set-user-password"})
_FOR_EXEC = frozenset({"guest-exec", "guest-exec-status"})


def plan_agent_conditions(vmi_spec: JsonObject, *, answers: bool, facts: GuestFacts | None) -> list[JsonObject]:
    """The conditions that hold: that an agent answers, and that it cannot do what the instance asks of it."""
    if not answers:
        return []
    connected = condition("AgentConnected", True, "GuestAgentConnected")
    if facts is None or facts.commands is None:
        return [connected]
    missing = sorted(_needed(vmi_spec) - facts.commands)
    if not missing:
        return [connected]
    message = f"the guest's agent ({facts.version}) does not know or may not run {', '.join(missing)}; install a newer one or allow them"
    return [connected, condition("AgentVersionNotSupported", True, "MissingCommands", message)]


def _needed(vmi_spec: JsonObject) -> frozenset[str]:
    needed = _REQUIRED
    for credential in vmi_spec.get("accessCredentials") or []:
        for kind, commands in (("sshPublicKey", _FOR_KEYS), ("userPassword", _FOR_PASSWORDS)):
            if ((credential.get(kind) or {}).get("propagationMethod") or {}).get("qemuGuestAgent") is not None:
                needed |= commands
    if any((vmi_spec.get(probe) or {}).get("exec") for probe in ("readinessProbe", "livenessProbe")):
        needed |= _FOR_EXEC
    return needed
