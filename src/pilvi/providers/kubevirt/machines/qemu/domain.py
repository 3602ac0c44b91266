"""The hardware of a machine: from the instance's domain to QEMU's specification. Pure.

Where the domain is silent a machine gets what KubeVirt gives it: q35, the host's processor, a screen, a serial console, a memory
balloon, BIOS. What QEMU or pilvi cannot do is refused by the admission policies already and again here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError
from pilvi.host.qemu.spec import Bios, Cpu, DirectKernel, Memory, Nic, QemuSpec, Sockets, Uefi
from pilvi.host.units import OpenTap
from pilvi.lib.hashing import short_hash
from pilvi.lib.quantity import quantity_bytes
from pilvi.providers.attachments import find_attachments
from pilvi.providers.kubevirt.machines.backend import MachineLeg, MachineSpec
from pilvi.providers.kubevirt.machines.qemu.choices import is_on, plain
from pilvi.providers.kubevirt.machines.qemu.drives import MachineFiles, plan_drives
from pilvi.providers.kubevirt.machines.qemu.features import plan_hyperv, plan_panic, plan_processor_features, plan_timers, plan_timezone
from pilvi.providers.kubevirt.machines.qemu.gear import plan_sound, plan_tablets, plan_video, plan_watchdog
from pilvi.providers.kubevirt.machines.qemu.offer import HostOffer
from pilvi.providers.kubevirt.machines.qemu.state import has_tpm
from pilvi.providers.names import machine_netns, machine_port, machine_unit
from pilvi.providers.sizing import find_hugepage_bytes

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud

__all__ = ["cards_of", "plan_machine", "sockets_of"]

_MODELS = {"host-model": "host", "host-passthrough": "host", "": "host"}


def sockets_of(cloud: Cloud, uid: str) -> Sockets:
    """Where the QEMU of the machine listens."""
    return Sockets(folder=cloud.run / "machines" / short_hash(uid))


def plan_machine(cloud: Cloud, spec: MachineSpec, files: MachineFiles, user: int, offer: HostOffer) -> QemuSpec:
    """The machine as QEMU shall run it; `user` is the host uid of its process. Raises UserError that names the field."""
    domain = spec.instance.get("domain") or {}
    devices = domain.get("devices") or {}
    return QemuSpec(
        name=machine_unit(spec.uid),
        title=f"{spec.namespace}_{spec.name}",
        uuid=(domain.get("firmware") or {}).get("uuid") or spec.uid,
        user=user,
        group=offer.kvm_group,
        netns=machine_netns(cloud, spec.uid),
        sockets=sockets_of(cloud, spec.uid),
        log=files.folder / "qemu.log",
        serial_log=files.serial_log,
        memory=_memory(spec, domain),
        machine=_machine_type(domain, offer),
        accelerator=offer.accelerator,
        cpu=_cpu(spec, domain, offer),
        firmware=_firmware(domain, files, offer),
        kernel=_kernel(spec, files),
        drives=plan_drives(spec.instance, spec.volumes, files),
        nics=_nics(spec, devices),
        tpm=sockets_of(cloud, spec.uid).tpm if has_tpm(domain) else None,
        serial=devices.get("autoattachSerialConsole") is not False,
        screen=devices.get("autoattachGraphicsDevice") is not False,
        video=plan_video(devices),
        balloon=devices.get("autoattachMemBalloon") is not False,
        rng=devices.get("rng") is not None,
        watchdog=plan_watchdog(devices),
        tablets=plan_tablets(devices),
        sound=plan_sound(devices),
        acpi=_has_acpi(domain),
        hyperv=plan_hyperv(domain, offer.accelerator),
        panic=plan_panic(domain),
        timezone=plan_timezone(domain),
        timers=plan_timers(domain),
        hide_hypervisor=bool(((domain.get("features") or {}).get("kvm") or {}).get("hidden")),
        smbios=_smbios(domain),
        clock_offset_s=int(((domain.get("clock") or {}).get("utc") or {}).get("offsetSeconds") or 0),
        reboot="exit" if domain.get("rebootPolicy") == "Terminate" else "reset",
        paused=spec.instance.get("startStrategy") == "Paused",
        cpu_milli=spec.cpu_milli,
        stop_grace_s=spec.stop_grace_s,
    )


def _memory(spec: MachineSpec, domain: JsonObject) -> Memory:
    most = (domain.get("memory") or {}).get("maxGuest")
    return Memory(
        size_bytes=spec.size.memory_bytes, max_bytes=quantity_bytes(most) if most else 0, hugepage_bytes=find_hugepage_bytes(spec.instance)
    )


def _machine_type(domain: JsonObject, offer: HostOffer) -> str:
    wanted = (domain.get("machine") or {}).get("type") or "q35"
    if wanted == "q35":
        return offer.machine
    if not str(wanted).startswith("pc-q35-"):
        raise UserError(f"spec.domain.machine.type is {wanted!r}", hint=f"write q35, or a type of this host's QEMU such as {offer.machine}")
    return plain(str(wanted), "spec.domain.machine.type")


def _cpu(spec: MachineSpec, domain: JsonObject, offer: HostOffer) -> Cpu:
    cpu = domain.get("cpu") or {}
    model = cpu.get("model") or ""
    return Cpu(
        model=_MODELS.get(model) or plain(model, "spec.domain.cpu.model"),
        features=plan_processor_features(domain, offer.accelerator),
        sockets=spec.size.sockets,
        cores=spec.size.cores,
        threads=spec.size.threads,
        max_sockets=max(int(cpu.get("maxSockets") or 0), spec.size.sockets),
    )


def _firmware(domain: JsonObject, files: MachineFiles, offer: HostOffer) -> Bios | Uefi:
    bootloader = (domain.get("firmware") or {}).get("bootloader") or {}
    efi = bootloader.get("efi")
    if efi is None:
        return Bios(serial=bool((bootloader.get("bios") or {}).get("useSerial")))
    secure = efi.get("secureBoot") is not False
    if bootloader.get("bios") is not None:
        raise UserError("spec.domain.firmware.bootloader has bios and efi", hint="keep one of them")
    if secure and not is_on((domain.get("features") or {}).get("smm")):
        raise UserError(
            "spec.domain.firmware.bootloader.efi: secure boot needs spec.domain.features.smm",
            hint="add features: {smm: {enabled: true}}, or set efi.secureBoot: false",
        )
    found = offer.find_uefi(secure_boot=secure)
    if found is None:
        raise UserError("this host has no UEFI firmware for machines", hint="install the Debian package ovmf")
    return Uefi(code=found.code, variables=files.variables(persistent=bool(efi.get("persistent"))), secure_boot=secure)


def _kernel(spec: MachineSpec, files: MachineFiles) -> DirectKernel | None:
    boot = spec.kernel
    if boot is None:
        return None
    return DirectKernel(kernel=files.kernel, initrd=files.initrd if boot.initrd is not None else None, arguments=boot.arguments)


def _nics(spec: MachineSpec, devices: JsonObject) -> tuple[Nic, ...]:
    interfaces: dict[str, dict[str, Any]] = {interface["name"]: interface for interface in devices.get("interfaces") or []}
    return tuple(_nic(spec, leg, interfaces.get(leg.name) or {}) for leg in spec.legs)


def _nic(spec: MachineSpec, leg: MachineLeg, interface: dict[str, Any]) -> Nic:
    return Nic(
        name=leg.name,
        tap=OpenTap(name=machine_port(spec.uid, leg.provider), netns=leg.netns),
        mac=leg.mac,
        mtu=leg.mtu,
        model=interface.get("model") or "virtio",
        boot_index=interface.get("bootOrder"),
        acpi_index=interface.get("acpiIndex"),
        up=leg.is_up,
        port=leg.place,
    )


def cards_of(spec: MachineSpec) -> frozenset[str]:
    """The names of the cards that the machine may keep, also of those whose leg is not to be had at the moment."""
    return frozenset(found.name for found in find_attachments(spec.instance, spec.namespace) if not found.is_absent)


def _smbios(domain: JsonObject) -> dict[str, dict[str, str]]:
    """What KubeVirt writes into the tables: `system`, and `chassis` when the domain names one."""
    system = {"manufacturer": "KubeVirt", "family": "KubeVirt", "product": "None"}
    if serial := (domain.get("firmware") or {}).get("serial"):
        system["serial"] = serial
    tables = {"system": system}
    if chassis := domain.get("chassis"):
        tables["chassis"] = {name: value for name, value in chassis.items() if value}
    return tables


def _has_acpi(domain: JsonObject) -> bool:
    acpi = (domain.get("features") or {}).get("acpi")
    return acpi is None or is_on(acpi)
