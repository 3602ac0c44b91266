"""KubeVirt's kinds: VirtualMachine, VirtualMachineInstance, and the host that they run on.

virtualmachine/   run strategies: starts and stops the instance of the same name
instance/         makes an instance run: its virt-launcher Pod, its address, its machine, its status
machines/         what runs a machine, behind one interface: sandboxes and QEMU
subresources/     what virtctl asks for beside writing objects: start and stop, console, screen, ports, the guest's agent
virtualhost/      the Nodes that the Pods are scheduled to, their Leases, and a kubelet's other duties
migration/        moves machines between these Nodes; answers evictions
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import NAMESPACES, NODES, PODS, SECRETS
from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from pilvi.api.builtin import PERSISTENT_VOLUMES as VOLUMES
from pilvi.images import Pulls
from pilvi.providers.kubevirt.admission import checks
from pilvi.providers.kubevirt.instance.backends import Backends
from pilvi.providers.kubevirt.instance.controller import Instances
from pilvi.providers.kubevirt.instance.sweep import MachineSweep
from pilvi.providers.kubevirt.kinds import INSTANCES, IPS, MACHINES, SUBNETS, TENANT_CONTROL_PLANES, VPCS
from pilvi.providers.kubevirt.machines.backend import MachineBackend
from pilvi.providers.kubevirt.machines.backends import machine_backends
from pilvi.providers.kubevirt.migration.controllers import migration_controllers
from pilvi.providers.kubevirt.migration.evacuation import Evictions
from pilvi.providers.kubevirt.subresources import subresources
from pilvi.providers.kubevirt.virtualhost.controller import VirtualHost
from pilvi.providers.kubevirt.virtualhost.facts import read_host_facts
from pilvi.providers.kubevirt.virtualhost.hosts import Hosts
from pilvi.providers.kubevirt.virtualhost.node import LEASE_NAMESPACE
from pilvi.providers.kubevirt.virtualhost.pods import StrayPods
from pilvi.providers.kubevirt.virtualmachine.controller import VirtualMachines
from pilvi.providers.kubevirt.wakeups import (
    all_instances,
    host_failed,
    instance_of_ip,
    instances_of_claim,
    instances_of_secret,
    instances_of_subnet,
    instances_of_vpc,
    wake_by_image,
    wake_by_machine,
    wake_by_unit,
)
from pilvi.runtime import Controller, Watch, any_change, conditions_changed, desire_changed

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["checks", "controllers", "evictions", "subresources"]

# A pass may wait for a guest to power off; that must not hold up the others.
_MACHINES_AT_ONCE = 64
_LONGEST_STOP_S = 2 * 3600.0
_NOBODY = Key("", "")  # the key of no instance: its pass looks for machines without one


def controllers(platform: Platform, backends: dict[str, MachineBackend] | None = None) -> list[Controller]:
    """The controllers of this group. `backends` replaces the real ones, for tests."""
    facts = read_host_facts(platform.cloud)
    if backends is None:
        backends = machine_backends(platform)
    pulls = Pulls(platform.images)
    sweep = MachineSweep(platform.informers, Backends(backends))
    hosts = Hosts(platform.cloud, platform.informers, facts.name)
    instances = Instances(platform, hosts, Backends(backends), sweep, pulls)
    instance_controller = Controller(
        "virtualmachineinstance",
        INSTANCES,
        instances.reconcile,
        owns=[PODS],
        watches=[
            Watch(IPS, instance_of_ip, desire_changed),
            Watch(SUBNETS, lambda subnet: instances_of_subnet(platform.informers, subnet), conditions_changed),
            Watch(VPCS, lambda vpc: instances_of_vpc(platform.informers, vpc), conditions_changed),
            Watch(CLAIMS, lambda claim: instances_of_claim(platform.informers, claim)),
            Watch(VOLUMES, _no_keys),
            Watch(NODES, lambda _node: all_instances(platform.informers), host_failed),
            Watch(SECRETS, lambda secret: instances_of_secret(platform.informers, secret), desire_changed),
        ],
        concurrency=_MACHINES_AT_ONCE,
        predicate=any_change,
        timeout_s=_LONGEST_STOP_S,
        beside=[pulls.run, *(backend.run for backend in backends.values())],
    )
    wake_by_unit(platform, instance_controller)
    wake_by_machine(platform, instance_controller, backends.values())
    wake_by_image(platform, instance_controller, pulls)
    host = VirtualHost(platform, facts, hosts, lambda: instance_controller.enqueue(_NOBODY), Evictions(platform).empty)
    host_keys = [Key("", name) for name in hosts.wanted]
    return [
        Controller(
            "virtualhost",
            NODES,
            host.reconcile,
            # The first pass is woken by the namespace of the Lease, since there is no Node yet.
            watches=[
                Watch(NAMESPACES, lambda namespace: host_keys if namespace["metadata"]["name"] == LEASE_NAMESPACE else [], desire_changed),
                Watch(TENANT_CONTROL_PLANES, lambda _plane: host_keys, lambda _old, _new: False),
            ],
            concurrency=1,
            predicate=desire_changed,
        ),
        Controller(
            "virtualmachine",
            MACHINES,
            VirtualMachines(platform).reconcile,
            owns=[INSTANCES],
            predicate=_machine_changed,
            concurrency=8,
        ),
        instance_controller,
        *migration_controllers(platform, hosts, instances),
        Controller("straypods", PODS, StrayPods(platform, hosts).reconcile, watches=[Watch(INSTANCES, _no_keys)], predicate=any_change),
    ]


def evictions(platform: Platform) -> Callable[[JsonObject], Awaitable[JsonObject]]:
    """What answers an AdmissionReview of `pods/eviction`."""
    return Evictions(platform).answer


def _machine_changed(old: JsonObject, new: JsonObject) -> bool:
    """A start or stop request arrives in the status."""
    requests = "stateChangeRequests"
    return desire_changed(old, new) or (old.get("status") or {}).get(requests) != (new.get("status") or {}).get(requests)


def _no_keys(_obj: JsonObject) -> Iterable[Key]:
    """Watched for its cache only."""
    return ()
