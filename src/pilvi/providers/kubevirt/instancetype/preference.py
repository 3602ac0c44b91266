"""Puts a preference into what a machine's specification leaves open. Pure.

What fills what, and the two that win over the machine, are KubeVirt's (pkg/instancetype/preference/apply).
"""

from __future__ import annotations

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.instancetype.paths import get_path, put_path

__all__ = ["apply_attachments", "apply_preference"]

# Whether these devices are there at all decides about the defaults that follow, so they come first.
_ATTACHMENTS = {
    f"devices.preferredAutoattach{device}": f"domain.devices.autoattach{device}"
    for device in ("GraphicsDevice", "InputDevice", "MemBalloon", "PodInterface", "SerialConsole")
}
_FILLS = {
    "clock.preferredTimer": "domain.clock.timer",
    "devices.preferredBlockMultiQueue": "domain.devices.blockMultiQueue",
    "devices.preferredNetworkInterfaceMultiQueue": "domain.devices.networkInterfaceMultiqueue",
    "devices.preferredRng": "domain.devices.rng",
    "devices.preferredTPM": "domain.devices.tpm",
    "devices.preferredUseVirtioTransitional": "domain.devices.useVirtioTransitional",
    "devices.preferredVideoType": "domain.devices.video.type",
    "features.preferredApic": "domain.features.apic",
    "features.preferredKvm": "domain.features.kvm",
    "features.preferredPvspinlock": "domain.features.pvspinlock",
    "features.preferredSmm": "domain.features.smm",
    "machine.preferredMachineType": "domain.machine.type",
    "preferredArchitecture": "architecture",
    "preferredLaunchSecurity": "domain.launchSecurity",
    "preferredSubdomain": "subdomain",
    "preferredTerminationGracePeriodSeconds": "terminationGracePeriodSeconds",
}
# A machine's field has no value that says "not set", so KubeVirt lets the preference win.
_WINS = {
    "devices.preferredDisableHotplug": "domain.devices.disableHotplug",
    "features.preferredAcpi": "domain.features.acpi",
}
# The bindings of an interface, of which it has one at most.
_BINDINGS = ("bridge", "masquerade", "slirp", "sriov", "macvtap", "passt", "passtBinding", "binding")


def apply_attachments(preference: JsonObject, spec: JsonObject) -> None:
    """Change `spec` to have the devices that are liked; before its default disks and interfaces are put in."""
    _fill(preference, spec, _ATTACHMENTS)


def apply_preference(preference: JsonObject, spec: JsonObject, annotations: JsonObject) -> None:
    """Change `spec` and `annotations` to what is liked; disks and interfaces have to be there already, an instancetype too."""
    _fill(preference, spec, _FILLS)
    for source, target in _WINS.items():
        if (value := get_path(preference, source)) is not None:
            put_path(spec, target, value)
    _fill_clock(preference, spec)
    _fill_cpu(preference, spec)
    _fill_hyperv(preference, spec)
    _fill_firmware(preference.get("firmware") or {}, spec)
    _fill_devices(preference.get("devices") or {}, spec)
    for key, value in (preference.get("annotations") or {}).items():
        annotations.setdefault(key, value)


def _fill(preference: JsonObject, spec: JsonObject, table: dict[str, str]) -> None:
    for source, target in table.items():
        value = get_path(preference, source)
        if value is not None and get_path(spec, target) in (None, ""):
            put_path(spec, target, value)


def _set_missing(part: JsonObject, name: str, value: object) -> None:
    if value not in (None, "") and part.get(name) in (None, ""):
        part[name] = value


def _fill_clock(preference: JsonObject, spec: JsonObject) -> None:
    """An offset is taken whole or not at all."""
    offset = get_path(preference, "clock.preferredClockOffset")
    if isinstance(offset, dict) and get_path(spec, "domain.clock.utc") is None and get_path(spec, "domain.clock.timezone") is None:
        for name, value in offset.items():
            put_path(spec, f"domain.clock.{name}", value)


def _fill_cpu(preference: JsonObject, spec: JsonObject) -> None:
    liked = (preference.get("cpu") or {}).get("preferredCPUFeatures") or []
    if not liked:
        return
    features = ((spec["domain"].get("cpu") or {}).get("features")) or []
    named = {feature["name"] for feature in features}
    put_path(spec, "domain.cpu.features", [*features, *(feature for feature in liked if feature["name"] not in named)])


def _fill_hyperv(preference: JsonObject, spec: JsonObject) -> None:
    liked = (preference.get("features") or {}).get("preferredHyperv")
    if liked is not None:
        present = get_path(spec, "domain.features.hyperv")
        put_path(spec, "domain.features.hyperv", {**liked, **(present if isinstance(present, dict) else {})})


def _fill_firmware(liked: JsonObject, spec: JsonObject) -> None:
    """The firmware is taken where the machine names none; details of a firmware that it names itself are filled in all the same."""
    present = get_path(spec, "domain.firmware.bootloader")
    loader: JsonObject = dict(present) if isinstance(present, dict) else {}
    named = loader.get("bios") is not None or loader.get("efi") is not None
    if not named and liked.get("preferredUseBios"):
        loader["bios"] = {}
    if loader.get("bios") is not None and liked.get("preferredUseBiosSerial") is not None:
        loader["bios"] = {"useSerial": liked["preferredUseBiosSerial"], **loader["bios"]}
    if loader.get("bios") is None and loader.get("efi") is None:
        if liked.get("preferredEfi") is not None:
            put_path(spec, "domain.firmware.bootloader", {**loader, "efi": liked["preferredEfi"]})
            return  # the old forms are not looked at beside it
        if liked.get("preferredUseEfi"):
            loader["efi"] = {}
    if loader.get("efi") is not None and liked.get("preferredUseSecureBoot") is not None:
        loader["efi"] = {"secureBoot": liked["preferredUseSecureBoot"], **loader["efi"]}
    if loader:
        put_path(spec, "domain.firmware.bootloader", loader)


def _fill_devices(liked: JsonObject, spec: JsonObject) -> None:
    devices = spec["domain"]["devices"]
    for disk in devices.get("disks") or []:
        _fill_disk(liked, disk)
    networks = {network["name"]: network for network in spec.get("networks") or []}
    for interface in devices.get("interfaces") or []:
        _set_missing(interface, "model", liked.get("preferredInterfaceModel"))
        is_unbound = all(interface.get(binding) is None for binding in _BINDINGS)
        in_pod_network = (networks.get(interface["name"]) or {}).get("pod") is not None
        if is_unbound and in_pod_network and liked.get("preferredInterfaceMasquerade") is not None:
            interface["masquerade"] = liked["preferredInterfaceMasquerade"]
    for device in devices.get("inputs") or []:
        _set_missing(device, "bus", liked.get("preferredInputBus"))
        _set_missing(device, "type", liked.get("preferredInputType"))
    if devices.get("sound") is not None:
        _set_missing(devices["sound"], "model", liked.get("preferredSoundModel"))
    if liked.get("preferredPanicDeviceModel"):
        devices["panicDevices"] = [
            {"model": liked["preferredPanicDeviceModel"], **device} for device in devices.get("panicDevices") or [{}]
        ]


def _fill_disk(liked: JsonObject, disk: JsonObject) -> None:
    if disk.get("cdrom") is not None:
        _set_missing(disk["cdrom"], "bus", liked.get("preferredCdromBus"))
        return
    if disk.get("lun") is not None:
        _set_missing(disk["lun"], "bus", liked.get("preferredLunBus"))
        return
    target = disk["disk"] = disk.get("disk") or {}
    _set_missing(target, "bus", liked.get("preferredDiskBus"))
    _set_missing(disk, "blockSize", liked.get("preferredDiskBlockSize"))
    _set_missing(disk, "cache", liked.get("preferredDiskCache"))
    _set_missing(disk, "io", liked.get("preferredDiskIO"))
    if target.get("bus") == "virtio":
        _set_missing(disk, "dedicatedIOThread", liked.get("preferredDiskDedicatedIoThread"))
