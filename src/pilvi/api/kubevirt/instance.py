"""VirtualMachineInstance: one run of a virtual machine."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, ClassVar

from pilvi.api.core import Affinity, OpenMetadata, Toleration, TopologySpreadConstraint
from pilvi.api.field import Part, accepted, implemented, rejected
from pilvi.api.kubevirt.credentials import AccessCredential
from pilvi.api.kubevirt.domain import Domain
from pilvi.api.kubevirt.instance_status import VirtualMachineInstanceStatus
from pilvi.api.kubevirt.probes import MachineProbe
from pilvi.api.kubevirt.rules import MACHINE_COLUMNS, machine_rules, machine_variables, memory_rule
from pilvi.api.kubevirt.volumes import Network, Volume
from pilvi.api.object import Column, Definition, Object, Rule
from pilvi.api.resource import Resource

__all__ = ["VirtualMachineInstance", "VirtualMachineInstanceSpec", "VirtualMachineInstanceTemplate"]


class DnsOption(Part):
    name: str | None = None
    value: str | None = None


class DnsConfig(Part):
    nameservers: list[str] = []
    options: list[DnsOption] = []
    searches: list[str] = []


class DeviceClaim(Part):
    name: str
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


class UtilityVolume(Part):
    claim_name: str
    name: str
    read_only: bool | None = None
    type: str | None = None


class VirtualMachineInstanceSpec(Part):
    domain: Annotated[Domain, implemented("Hardware of the machine.")]
    access_credentials: Annotated[list[AccessCredential], implemented("Keys and passwords put into the guest.", max_items=256)] = []
    affinity: Annotated[Affinity | None, implemented("Placement: passed to the scheduler.")] = None
    architecture: Annotated[str | None, accepted("CPU architecture.", "machines have the host's", when="self != '' && self != 'amd64'")] = (
        None
    )
    dns_config: Annotated[DnsConfig | None, accepted("Resolver settings.", "machines use their VPC's resolver")] = None
    dns_policy: Annotated[str | None, accepted("Resolver choice.", "machines use their VPC's resolver")] = None
    eviction_strategy: Annotated[
        str | None,
        rejected(
            "What an eviction does: None (the default) stops the machine, LiveMigrate moves it, LiveMigrateIfPossible one or the other.",
            "there is no such strategy",
            "None, LiveMigrate, LiveMigrateIfPossible or External",
            when="!(self in ['', 'None', 'LiveMigrate', 'LiveMigrateIfPossible', 'External'])",
        ),
    ] = None
    hostname: Annotated[str | None, implemented("Host name; default the machine's name.")] = None
    liveness_probe: Annotated[
        MachineProbe | None, implemented("Probe that ends the machine as failed; the run strategy decides what follows.")
    ] = None
    networks: Annotated[list[Network], implemented("Networks that interfaces join; default the machine's subnet.", max_items=256)] = []
    node_selector: Annotated[dict[str, str], implemented("Labels of the host: passed to the scheduler.")] = {}
    priority_class_name: Annotated[str | None, implemented("Priority: passed to the scheduler.")] = None
    readiness_probe: Annotated[MachineProbe | None, implemented("Probe behind the Ready condition, of the machine and of its Pod.")] = None
    resource_claims: Annotated[list[DeviceClaim], accepted("Claims for devices.", "the cloud hands out no devices", list_map=["name"])] = []
    scheduler_name: Annotated[str | None, implemented("Scheduler that places the machine.")] = None
    service_account_name: Annotated[
        str | None,
        accepted("Account of the virt-launcher Pod.", "that Pod asks for nothing; a serviceAccount volume gives the guest a token"),
    ] = None
    start_strategy: Annotated[str | None, implemented("Paused starts the machine without a first instruction; a sandbox runs at once.")] = (
        None
    )
    subdomain: Annotated[str | None, accepted("Domain of the host name.", "a machine is called MACHINE.NAMESPACE")] = None
    termination_grace_period_seconds: Annotated[int | None, implemented("Time the machine gets to stop by itself.", minimum=0)] = None
    tolerations: Annotated[list[Toleration], implemented("Taints to bear: passed to the scheduler.")] = []
    topology_spread_constraints: Annotated[
        list[TopologySpreadConstraint],
        implemented("Spread over hosts: passed to the scheduler.", list_map=["topologyKey", "whenUnsatisfiable"]),
    ] = []
    utility_volumes: Annotated[
        list[UtilityVolume],
        accepted("Volumes of the virt-launcher Pod.", "nothing runs in that Pod", max_items=256, list_map=["name"]),
    ] = []
    volumes: Annotated[list[Volume], implemented("Disks of the machine.", max_items=256)] = []


class VirtualMachineInstanceTemplate(Part):
    """What a VirtualMachine makes its instance from."""

    metadata: Annotated[OpenMetadata | None, implemented("Labels and annotations of the instance and its Pod.")] = None
    spec: Annotated[VirtualMachineInstanceSpec | None, implemented("The instance.")] = None


class VirtualMachineInstance(Object):
    """One run of a virtual machine. Made by a VirtualMachine; its spec does not change."""

    RESOURCE: ClassVar[Resource] = Resource("kubevirt.io", "v1", "virtualmachineinstances", "VirtualMachineInstance")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("vmi", "vmis"),
        categories=("all",),
        also_served=("v1alpha3",),
        columns=(
            Column("Age", ".metadata.creationTimestamp", "date"),
            Column("Phase", ".status.phase"),
            Column("IP", ".status.interfaces[0].ipAddress"),
            Column("NodeName", ".status.nodeName"),
            *MACHINE_COLUMNS,
            Column("Live-Migratable", ".status.conditions[?(@.type=='LiveMigratable')].status", wide=True),
            Column("Paused", ".status.conditions[?(@.type=='Paused')].status", wide=True),
        ),
        status=False,
        variables=machine_variables("object.?spec.orValue({})"),
        rules=(
            Rule(
                "oldObject == null || object.spec == oldObject.spec || request.userInfo.username.startsWith('system:pilvi:')",
                "'spec of a VirtualMachineInstance cannot change; edit the VirtualMachine, and restart it'",
            ),
            Rule(
                "object.metadata.namespace != 'ovn' || !object.metadata.name.contains('.')",
                "'metadata.name: in a namespace called ovn no machine has dots in its name, since its addresses would be called like those"
                " of others; write another name'",
            ),
            memory_rule("spec"),
            *machine_rules("spec"),
        ),
    )

    spec: VirtualMachineInstanceSpec
    status: VirtualMachineInstanceStatus | None = None
