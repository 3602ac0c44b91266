"""Which instances a change of something else concerns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.kubeovn import DEFAULT_VPC
from pilvi.errors import UserError
from pilvi.images import Pulls, Reference, parse_reference
from pilvi.providers.kubevirt.instance.volumes.claim import find_claim
from pilvi.providers.kubevirt.kinds import INSTANCES, IPS, SUBNETS
from pilvi.providers.kubevirt.machines.backend import MachineBackend
from pilvi.providers.kubevirt.virtualhost.hosts import is_failed
from pilvi.providers.names import SLOTS, machine_unit
from pilvi.runtime import Controller, Informers

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = [
    "all_instances",
    "host_failed",
    "instance_of_ip",
    "instances_of_secret",
    "instances_of_subnet",
    "instances_of_vpc",
    "wake_by_image",
    "wake_by_machine",
    "wake_by_unit",
]


def instance_of_ip(ip: JsonObject) -> list[Key]:
    """The instance that an IP object `<name>.<namespace>` belongs to; namespaces have no dots."""
    name, _, namespace = ip["metadata"]["name"].rpartition(".")
    return [Key(namespace, name)] if name else []


def all_instances(informers: Informers) -> list[Key]:
    """A host that comes or goes, or fails, concerns every machine: it may move, or no more."""
    return [Key.of(vmi) for vmi in informers.get(INSTANCES).list()]


def host_failed(old: JsonObject, new: JsonObject) -> bool:
    """What a Node says of its pressure and its heartbeat concerns no machine that is there."""
    return is_failed(old) != is_failed(new)


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
    """Those of the Secret's namespace whose volumes name it."""
    namespace, name = secret["metadata"]["namespace"], secret["metadata"]["name"]
    return [Key.of(vmi) for vmi in informers.get(INSTANCES).list(namespace) if name in _secret_names(vmi)]


def instances_of_claim(informers: Informers, claim: JsonObject) -> list[Key]:
    """Those of the claim's namespace whose volumes name it."""
    namespace, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
    return [
        Key.of(vmi)
        for vmi in informers.get(INSTANCES).list(namespace)
        if any((named := find_claim(volume)) and named.name == name for volume in (vmi.get("spec") or {}).get("volumes") or [])
    ]


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
    instances.add_index("image", lambda vmi: [str(reference) for reference in _references(vmi)])

    def wake(reference: Reference) -> None:
        for vmi in instances.by_index("image", str(reference)):
            controller.enqueue(Key.of(vmi))

    pulls.subscribe(wake)


def _references(vmi: JsonObject) -> Iterator[Reference]:
    for volume in (vmi.get("spec") or {}).get("volumes") or []:
        with contextlib.suppress(UserError):  # what is no image is said by the instance's own pass
            if volume.get("containerDisk"):
                yield parse_reference(volume["containerDisk"]["image"])


def _secret_names(vmi: JsonObject) -> set[str | None]:
    volumes = (vmi.get("spec") or {}).get("volumes") or []
    return {
        *(
            (volume[source].get(field) or {}).get("name")
            for volume in volumes
            for source in ("cloudInitNoCloud", "cloudInitConfigDrive")
            for field in ("secretRef", "networkDataSecretRef")
            if volume.get(source)
        ),
        *((volume.get("containerDisk") or {}).get("imagePullSecret") for volume in volumes),
    }
