"""What a guest is told of its hypervisor: enlightenments for Windows, clocks, and by which device it says that it has crashed. Pure."""

from __future__ import annotations

import zoneinfo
from typing import Any, Literal

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError
from pilvi.host.qemu.spec import Timers
from pilvi.providers.kubevirt.machines.qemu.choices import choose, is_on, plain

__all__ = ["plan_hyperv", "plan_panic", "plan_processor_features", "plan_timers", "plan_timezone"]

_FEATURES = "spec.domain.features.hyperv"
# KubeVirt's field -> QEMU's word after `hv-`.
_SWITCHES = {
    "relaxed": "relaxed",
    "vapic": "vapic",
    "vpindex": "vpindex",
    "runtime": "runtime",
    "synic": "synic",
    "synictimer": "stimer",
    "reset": "reset",
    "frequencies": "frequencies",
    "reenlightenment": "reenlightenment",
    "tlbflush": "tlbflush",
    "ipi": "ipi",
    "evmcs": "evmcs",
}
_PARTS = {("synictimer", "direct"): "stimer-direct", ("tlbflush", "direct"): "tlbflush-direct", ("tlbflush", "extended"): "tlbflush-ext"}
# What KVM wants beside each (QEMU, docs/system/i386/hyperv.rst).
_NEEDS = {
    "synic": ("vpindex",),
    "stimer": ("vpindex", "synic", "time"),
    "tlbflush": ("vpindex",),
    "ipi": ("vpindex",),
    "evmcs": ("vapic",),
}
_LEAST_SPINS, _SPINS = 4095, 4096
_LONGEST_VENDOR = 12
_PANIC = {"isa": "isa", "pvpanic": "pci", "hyperv": None}


def plan_hyperv(domain: JsonObject, accelerator: Literal["kvm", "tcg"]) -> dict[str, bool | int | str]:
    """QEMU's enlightenments. Without KVM there are none, and guests do without. Raises UserError."""
    features = domain.get("features") or {}
    asked = features.get("hyperv") or {}
    found: dict[str, bool | int | str] = {}
    for field, word in _SWITCHES.items():
        if is_on(asked.get(field)):
            found |= dict.fromkeys((word, *_NEEDS.get(word, ())), True)
    for (field, part), word in _PARTS.items():
        if is_on(asked.get(field)) and is_on(asked[field].get(part)):
            found[word] = True
    if is_on(asked.get("spinlocks")):
        found["spinlocks"] = _spins(asked["spinlocks"].get("spinlocks"))
    if is_on(asked.get("vendorid")):
        found["vendor-id"] = _vendor(asked["vendorid"].get("vendorid") or "")
    if is_on(features.get("hypervPassthrough")):
        found["passthrough"] = True
    if "hyperv" in _panic_models(domain):
        found["crash"] = True
    return found if accelerator == "kvm" else {}


def plan_processor_features(domain: JsonObject, accelerator: Literal["kvm", "tcg"]) -> dict[str, bool]:
    """Flags of the processor, by name, and whether each is there. Raises UserError."""
    path = "spec.domain.cpu.features"
    features = (domain.get("cpu") or {}).get("features") or []
    found = {plain(str(feature["name"]), path): feature.get("policy") not in ("disable", "forbid") for feature in features}
    spinlock = (domain.get("features") or {}).get("pvspinlock")
    if spinlock is not None and accelerator == "kvm":
        found["kvm-pv-unhalt"] = is_on(spinlock)
    return found


def plan_panic(domain: JsonObject) -> Literal["isa", "pci"] | None:
    """The device by which the guest says that its kernel has crashed. Raises UserError for two of them."""
    found: list[Any] = [_PANIC[model] for model in _panic_models(domain) if _PANIC[model] is not None]
    if len(found) > 1:
        raise UserError("spec.domain.devices.panicDevices: a machine has one of isa and pvpanic", hint="keep one of them")
    return found[0] if found else None


def plan_timers(domain: JsonObject) -> Timers:
    """The clocks that the guest sees beside its own. Raises UserError for a policy that QEMU has not."""
    timer = (domain.get("clock") or {}).get("timer") or {}
    path = "spec.domain.clock.timer"
    return Timers(
        hpet=_present(timer.get("hpet")),
        kvm=_present(timer.get("kvm")),
        hyperv=_present(timer.get("hyperv")),
        rtc=choose((timer.get("rtc") or {}).get("tickPolicy"), ("delay", "catchup"), f"{path}.rtc.tickPolicy") or None,
        pit=choose((timer.get("pit") or {}).get("tickPolicy"), ("delay", "discard"), f"{path}.pit.tickPolicy") or None,
    )


def plan_timezone(domain: JsonObject) -> str | None:
    """The time that the guest's clock shows, if that is not UTC. Raises UserError for a place that this host does not know."""
    name = (domain.get("clock") or {}).get("timezone")
    if not name:
        return None
    try:
        return zoneinfo.ZoneInfo(name).key
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as e:
        raise UserError(
            f"spec.domain.clock.timezone is {name!r}, which this host does not know", hint="write one like Europe/Helsinki"
        ) from e


def _present(timer: JsonObject | None) -> bool | None:
    return None if timer is None else timer.get("present") is not False


def _spins(wanted: int | None) -> int:
    spins = _SPINS if wanted is None else int(wanted)
    if spins < _LEAST_SPINS:
        raise UserError(f"{_FEATURES}.spinlocks.spinlocks is {spins}", hint=f"write {_LEAST_SPINS} or more")
    return spins


def _vendor(text: str) -> str:
    if not text or len(text) > _LONGEST_VENDOR:
        raise UserError(f"{_FEATURES}.vendorid.vendorid is {text!r}", hint=f"write 1 to {_LONGEST_VENDOR} letters and digits")
    return plain(text, f"{_FEATURES}.vendorid.vendorid")


def _panic_models(domain: JsonObject) -> list[str]:
    devices = (domain.get("devices") or {}).get("panicDevices") or []
    return [choose(device.get("model"), tuple(_PANIC), "spec.domain.devices.panicDevices[].model", "isa") for device in devices]
