"""Which instances a change of something else concerns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CONFIG_MAPS, SECRETS
from pilvi.api.kubeovn import DEFAULT_VPC
from pilvi.images import Pulls, Reference
from pilvi.providers.attachments import split_ip_name
from pilvi.providers.kubevirt.instance.credentials.credential import secret_names
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.providers.kubevirt.instance.volumes.filesets import named_objects
from pilvi.providers.kubevirt.instance.volumes.holders import held_claims
from pilvi.providers.kubevirt.instance.volumes.named import image_references, pull_secrets
from pilvi.providers.kubevirt.kinds import INSTANCES, IPS, MACHINES, SUBNETS
from pilvi.providers.kubevirt.machines.backend import MachineBackend
from pilvi.providers.kubevirt.virtualhost.hosts import is_failed
from pilvi.providers.kubevirt.virtualmachine.disks import disk_names
from pilvi.providers.names import SLOTS, machine_unit
from pilvi.runtime import Controller, Informers

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = [
    "all_instances",
    "disks_let_go",
    "host_failed",
    "instance_of_ip",
    "instances_of_claim",
    "instances_of_config_map",
    "instances_of_secret",
    "instances_of_subnet",
    "instances_of_vpc",
    "machines_of_claim",
    "wake_by_image",
    "wake_by_machine",
    "wake_by_unit",
]


def instance_of_ip(ip: JsonObject) -> list[Key]:
    """The instance that an IP object belongs to."""
    key, _ = split_ip_name(ip["metadata"]["name"])
    return [key] if key.name else []


def all_instances(informers: Informers) -> list[Key]:
    """A host that comes or goes, or fails, concerns every machine: it may move, or no more."""
    return [Key.of(vmi) for vmi in informers.get(INSTANCES).list()]


def host_failed(old: JsonObject, new: JsonObject) -> bool:
    """What a Node says of its pressure and its heartbeat concerns no machine that is there."""
    return is_failed(old) != is_failed(new)


def disks_let_go(old: JsonObject, new: JsonObject) -> bool:
    """Whether an instance has a disk no longer that another may wait for."""
    return bool(held_claims(old) - held_claims(new))


def instances_of_subnet(informers: Informers, subnet: JsonObject) -> list[Key]:
    """Those with an address in the Subnet."""
    name = subnet["metadata"]["name"]
    return [key for ip in informers.get(IPS).list() if (ip.get("spec") or {}).get("subnet") == name for key in instance_of_ip(ip)]


def instances_of_vpc(informers: Informers, vpc: JsonObject) -> list[Key]:
    """Those with an address in one of the Vpc's Subnets."""
    name = vpc["metadata"]["name"]
    subnets = [subnet for subnet in informers.get(SUBNETS).list() if ((subnet.get("spec") or {}).get("vpc") or DEFAULT_VPC) == name]
    return [key for subnet in subnets for key in instances_of_subnet(informers, subnet)]


def instances_of_secret(informers: Informers, secret: JsonObject) -> list[Key]:
    """Those of the Secret's namespace whose volumes or access credentials name it."""
    namespace, name = secret["metadata"]["namespace"], secret["metadata"]["name"]
    return [Key.of(vmi) for vmi in informers.get(INSTANCES).list(namespace) if name in _secret_names(vmi)]


def instances_of_config_map(informers: Informers, config_map: JsonObject) -> list[Key]:
    """Those of the ConfigMap's namespace with a disc of its files."""
    namespace, name = config_map["metadata"]["namespace"], config_map["metadata"]["name"]
    return [Key.of(vmi) for vmi in informers.get(INSTANCES).list(namespace) if (CONFIG_MAPS, name) in named_objects(vmi)]


def instances_of_claim(informers: Informers, claim: JsonObject) -> list[Key]:
    """Those of the namespace of the claim, or of the DataVolume of its name, whose volumes name it."""
    namespace, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
    return [Key.of(vmi) for vmi in informers.get(INSTANCES).list(namespace) if _names_claim(vmi.get("spec") or {}, name)]


def machines_of_claim(informers: Informers, claim: JsonObject) -> list[Key]:
    """VirtualMachines of the namespace of the claim, or of the DataVolume of its name, whose templates name it."""
    namespace, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
    return [Key.of(vm) for vm in informers.get(MACHINES).list(namespace) if name in disk_names(vm)]


def _names_claim(vmi_spec: JsonObject, name: str) -> bool:
    return any((named := find_claim(volume)) and named.name == name for volume in vmi_spec.get("volumes") or [])


def wake_by_unit(platform: Platform, controller: Controller) -> None:
    """Wake an instance when its unit starts, dies or changes."""
    instances = platform.informers.get(INSTANCES)
    instances.add_index("unit", lambda vmi: [machine_unit(vmi["metadata"]["uid"], slot) for slot in SLOTS])

    def wake(unit: str) -> None:
        for vmi in instances.by_index("unit", unit):
            controller.enqueue(Key.of(vmi))

    platform.units.subscribe(wake)


def wake_by_machine(platform: Platform, controller: Controller, backends: Iterable[MachineBackend]) -> None:
    """Wake an instance when its guest does something else than before."""
    instances = platform.informers.get(INSTANCES)
    instances.add_index("uid", lambda vmi: [vmi["metadata"]["uid"]])

    def wake(uid: str) -> None:
        for vmi in instances.by_index("uid", uid):
            controller.enqueue(Key.of(vmi))

    for backend in backends:
        backend.subscribe(wake)


def wake_by_image(platform: Platform, controller: Controller, pulls: Pulls) -> None:
    """Wake the instances that wait for a container disk when its pull has ended."""
    instances = platform.informers.get(INSTANCES)
    instances.add_index("image", lambda vmi: [str(reference) for reference in image_references(vmi.get("spec") or {})])

    def wake(reference: Reference) -> None:
        for vmi in instances.by_index("image", str(reference)):
            controller.enqueue(Key.of(vmi))

    pulls.subscribe(wake)


def _secret_names(vmi: JsonObject) -> set[str | None]:
    volumes = (vmi.get("spec") or {}).get("volumes") or []
    return {
        *secret_names(vmi.get("spec") or {}),
        *(
            (volume[source].get(field) or {}).get("name")
            for volume in volumes
            for source in ("cloudInitNoCloud", "cloudInitConfigDrive")
            for field in ("secretRef", "networkDataSecretRef")
            if volume.get(source)
        ),
        *pull_secrets(vmi.get("spec") or {}),
        *(name for resource, name in named_objects(vmi) if resource == SECRETS),
    }
