"""KubeVirt's kinds: VirtualMachine, VirtualMachineInstance, and the host that they run on.

virtualmachine/   run strategies: starts and stops the instance of the same name
instancetype/     sizes and preferences by name
replicaset/       a number of instances that are all alike
instance/         makes an instance run: its virt-launcher Pod, its address, its machine, its status
machines/         what runs a machine, behind one interface: sandboxes and QEMU
subresources/     what virtctl asks for beside writing objects: start and stop, console, screen, ports, the guest's agent
snapshot/         a machine and its volumes at one moment; restore/ the way back, clone/ a second machine like it
export/           disks to be downloaded, and manifests that make the machine elsewhere
virtualhost/      the Nodes that the Pods are scheduled to, their Leases, and a kubelet's other duties
migration/        moves machines between these Nodes; answers evictions
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CONFIG_MAPS, NAMESPACES, NODES, PODS, SECRETS
from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from pilvi.api.builtin import PERSISTENT_VOLUMES as VOLUMES
from pilvi.images import Pulls
from pilvi.providers.kubevirt.admission import checks
from pilvi.providers.kubevirt.export.controller import export_controller
from pilvi.providers.kubevirt.export.delivery import Delivery
from pilvi.providers.kubevirt.imagepruning import ImagePruning
from pilvi.providers.kubevirt.instance.backends import Backends
from pilvi.providers.kubevirt.instance.controller import Instances
from pilvi.providers.kubevirt.instance.sweep import MachineSweep
from pilvi.providers.kubevirt.instancetype.wakeups import watches as instancetype_watches
from pilvi.providers.kubevirt.kinds import DATA_VOLUMES, INSTANCES, IPS, MACHINES, REPLICA_SETS, SUBNETS, TENANT_CONTROL_PLANES, VPCS
from pilvi.providers.kubevirt.machines.backend import MachineBackend
from pilvi.providers.kubevirt.machines.backends import machine_backends
from pilvi.providers.kubevirt.migration.controllers import migration_controllers
from pilvi.providers.kubevirt.migration.evacuation import Evictions
from pilvi.providers.kubevirt.replicaset.controller import ReplicaSets
from pilvi.providers.kubevirt.replicaset.wakeups import replica_sets_of_orphan
from pilvi.providers.kubevirt.snapshot.controllers import snapshot_controllers
from pilvi.providers.kubevirt.snapshot.marks import machine_watches
from pilvi.providers.kubevirt.subresources import subresources
from pilvi.providers.kubevirt.virtualhost.controller import VirtualHost
from pilvi.providers.kubevirt.virtualhost.facts import read_host_facts
from pilvi.providers.kubevirt.virtualhost.hosts import Hosts
from pilvi.providers.kubevirt.virtualhost.node import LEASE_NAMESPACE
from pilvi.providers.kubevirt.virtualhost.pods import StrayPods
from pilvi.providers.kubevirt.virtualmachine.controller import VirtualMachines
from pilvi.providers.kubevirt.virtualmachine.disks import data_volume_changed
from pilvi.providers.kubevirt.wakeups import (
    all_instances,
    disks_let_go,
    host_failed,
    instance_of_ip,
    instances_of_claim,
    instances_of_config_map,
    instances_of_secret,
    instances_of_subnet,
    instances_of_vpc,
    machines_of_claim,
    wake_by_image,
    wake_by_machine,
    wake_by_unit,
)
from pilvi.runtime import Controller, Watch, any_change, conditions_changed, desire_changed, no_keys

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Delivery", "checks", "controllers", "evictions", "subresources"]

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
    sweep = MachineSweep(platform.cloud, platform.informers, Backends(backends))
    hosts = Hosts(platform.cloud, platform.informers, facts.name)
    instances = Instances(platform, hosts, Backends(backends), sweep, pulls)
    instance_controller = Controller(
        "virtualmachineinstance",
        INSTANCES,
        instances.reconcile,
        owns=[PODS],
        watches=[
            Watch(INSTANCES, instances.holders.held_up, disks_let_go),
            Watch(IPS, instance_of_ip, desire_changed),
            Watch(SUBNETS, lambda subnet: instances_of_subnet(platform.informers, subnet), conditions_changed),
            Watch(VPCS, lambda vpc: instances_of_vpc(platform.informers, vpc), conditions_changed),
            Watch(CLAIMS, lambda claim: instances_of_claim(platform.informers, claim)),
            Watch(DATA_VOLUMES, lambda made: instances_of_claim(platform.informers, made)),
            Watch(VOLUMES, no_keys),
            Watch(MACHINES, no_keys),
            Watch(NODES, lambda _node: all_instances(platform.informers), host_failed),
            Watch(SECRETS, lambda secret: instances_of_secret(platform.informers, secret), desire_changed),
            Watch(CONFIG_MAPS, lambda config_map: instances_of_config_map(platform.informers, config_map), desire_changed),
        ],
        concurrency=_MACHINES_AT_ONCE,
        predicate=any_change,
        timeout_s=_LONGEST_STOP_S,
        beside=[pulls.run, ImagePruning(platform).run, instances.attendants.run, *(backend.run for backend in backends.values())],
    )
    instances.attendants.wake = instance_controller.enqueue
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
            watches=[
                Watch(CLAIMS, lambda claim: machines_of_claim(platform.informers, claim)),
                Watch(DATA_VOLUMES, lambda made: machines_of_claim(platform.informers, made), data_volume_changed),
                *instancetype_watches(platform.informers),
                *machine_watches(platform),
            ],
            predicate=_machine_changed,
            concurrency=8,
        ),
        Controller(
            "virtualmachineinstancereplicaset",
            REPLICA_SETS,
            ReplicaSets(platform).reconcile,
            owns=[INSTANCES],
            watches=[Watch(INSTANCES, partial(replica_sets_of_orphan, platform.informers), desire_changed)],
        ),
        instance_controller,
        *snapshot_controllers(platform, backends),
        export_controller(platform),
        *migration_controllers(platform, hosts, instances),
        Controller("straypods", PODS, StrayPods(platform, hosts).reconcile, watches=[Watch(INSTANCES, no_keys)], predicate=any_change),
    ]


def evictions(platform: Platform) -> Callable[[JsonObject], Awaitable[JsonObject]]:
    """What answers an AdmissionReview of `pods/eviction`."""
    return Evictions(platform).answer


def _machine_changed(old: JsonObject, new: JsonObject) -> bool:
    """A start or stop request arrives in the status, and what was settled there may be cleared by hand."""
    asked = ("stateChangeRequests", "instancetypeRef", "preferenceRef", "memoryDumpRequest")
    before, after = old.get("status") or {}, new.get("status") or {}
    return desire_changed(old, new) or any(before.get(name) != after.get(name) for name in asked)
