"""What a VirtualMachineExport says. Pure. Conditions, phases and links are KubeVirt's (pkg/storage/export)."""

from __future__ import annotations

from pilvi.api import JsonObject
from pilvi.lib.clock import format_time
from pilvi.providers.kubevirt.export.contents import Held
from pilvi.providers.kubevirt.export.plan import end_of, secret_name
from pilvi.runtime import condition, conditions_of, merge_conditions

__all__ = ["export_status", "file_url", "is_ready"]


def is_ready(export: JsonObject) -> bool:
    """Whether it has said that it can be downloaded."""
    return (export.get("status") or {}).get("phase") == "Ready"


def export_status(export: JsonObject, held: Held, *, has_token: bool, url: str, authority: str) -> JsonObject:
    """The status of an export at `url` of a server with that authority. `has_token`: its Secret is there."""
    secret = secret_name(export)
    if held.reason:
        phase, ready = "Skipped" if held.nothing else "Pending", condition("Ready", False, held.reason, held.message)
    elif not has_token:
        message = f"Secret {secret} with a value `token` is awaited; create it"
        phase, ready = "Pending", condition("Ready", False, "PodPending", message)
    else:
        phase, ready = "Ready", condition("Ready", True, "PodReady")
    told = [ready] if held.told is None else [ready, held.told]
    status: JsonObject = {
        "phase": phase,
        "conditions": merge_conditions(conditions_of(export), told),
        "ttlExpirationTime": format_time(end_of(export)),
    }
    if has_token or export["spec"].get("tokenSecretRef"):
        status["tokenSecretRef"] = secret
    if held.machine:
        status["virtualMachineName"] = held.machine
    if phase == "Ready":
        status["links"] = {where: _link(held, url, authority, where) for where in ("external", "internal")}
    return status


def file_url(url: str, claim: str, *, packed: bool) -> str:
    """Where the disk of a claim is, below the `url` of its export."""
    return f"{url}/volumes/{claim}/disk.img{'.gz' if packed else ''}"


def _link(held: Held, url: str, authority: str, where: str) -> JsonObject:
    prefix = f"{url}/{where}/manifests"
    manifests = [{"type": "auth-header-secret", "url": f"{prefix}/secret"}]
    if held.made_of is not None:
        manifests.insert(0, {"type": "all", "url": f"{prefix}/all"})
    volumes = [
        {
            "name": volume.original,
            "formats": [
                {"format": "raw", "url": file_url(url, volume.claim, packed=False)},
                {"format": "gzip", "url": file_url(url, volume.claim, packed=True)},
            ],
        }
        for volume in held.volumes
    ]
    return {"cert": authority.strip(), "manifests": manifests, "volumes": volumes}
