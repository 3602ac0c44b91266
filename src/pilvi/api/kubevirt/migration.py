"""Moving a running machine to another virtual host, and the policies that say how."""

# A struct is described at the field that holds it.

from typing import Annotated, Any, ClassVar

from pilvi.api.field import Part, Quantity, accepted, implemented, rejected, shape
from pilvi.api.kubevirt.instance_status import Experimental, MachineCondition, MigrationState, PhaseTransitionTimestamp
from pilvi.api.object import Column, Definition, Object, Rule
from pilvi.api.resource import Resource

__all__ = ["MigrationPolicy", "VirtualMachineInstanceMigration"]


class Receive(Part):
    migration_id: str


class SendTo(Part):
    connect_url: str
    migration_id: str


class VirtualMachineInstanceMigrationSpec(Part):
    added_node_selector: Annotated[
        dict[str, str], implemented("Labels that the host must have, beside those that the machine asks for.")
    ] = {}
    priority: Annotated[str | None, accepted("Order among migrations that wait.", "the oldest goes first")] = None
    receive: Annotated[
        Receive | None,
        rejected(
            "The receiving side of a move between clouds.", "machines move within their cloud only", "vmiName of a machine of this cloud"
        ),
    ] = None
    send_to: Annotated[
        SendTo | None,
        rejected("The sending side of a move between clouds.", "machines move within their cloud only", "vmiName alone"),
    ] = None
    vmi_name: Annotated[str | None, implemented("The machine that moves, in the migration's namespace.")] = None


class VirtualMachineInstanceMigrationStatus(Part):
    conditions: list[MachineCondition] = []
    migration_state: MigrationState | None = None
    phase: str | None = None
    phase_transition_timestamps: list[PhaseTransitionTimestamp] = []
    synchronization_addresses: Annotated[list[str], shape("Of a move between clouds; never set.", list_type="atomic")] = []


class VirtualMachineInstanceMigration(Object):
    """Moves one running machine to another virtual host. Deleting it while it works calls it off."""

    RESOURCE: ClassVar[Resource] = Resource("kubevirt.io", "v1", "virtualmachineinstancemigrations", "VirtualMachineInstanceMigration")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("vmim", "vmims"),
        categories=("all",),
        also_served=("v1alpha3",),
        columns=(
            Column("Phase", ".status.phase"),
            Column("VMI", ".spec.vmiName"),
        ),
        rules=(
            Rule(
                "object.spec.?vmiName.orValue('') != ''",
                "'spec.vmiName is missing; name the VirtualMachineInstance that is to move'",
            ),
            Rule(
                "oldObject == null || object.spec == oldObject.spec",
                "'spec of a VirtualMachineInstanceMigration cannot change; make another one'",
            ),
        ),
    )

    spec: VirtualMachineInstanceMigrationSpec
    status: VirtualMachineInstanceMigrationStatus | None = None


class Selectors(Part):
    namespace_selector: Annotated[dict[str, str], implemented("Labels that the machine's namespace must have.")] = {}
    virtual_machine_instance_selector: Annotated[dict[str, str], implemented("Labels that the machine must have.")] = {}


class MigrationPolicySpec(Part):
    selectors: Annotated[Selectors, implemented("Which machines the policy is for; the one that names the most labels counts.")]
    allow_auto_converge: Annotated[bool | None, implemented("Slow the guest down when it writes faster than memory is copied.")] = None
    allow_post_copy: Annotated[
        bool | None,
        accepted("Let the guest run on the target before its memory is there.", "see allowWorkloadDisruption", when="self"),
    ] = None
    allow_workload_disruption: Annotated[
        bool | None, implemented("Pause a guest whose move takes longer than it may, so that it ends; else the move fails.")
    ] = None
    bandwidth_per_migration: Annotated[Quantity | None, implemented("Bytes in a second; 0 is without limit, which is the default.")] = None
    completion_timeout_per_gib: Annotated[int | None, implemented("Seconds for each GiB of memory; default 150.")] = None
    experimental: Annotated[Experimental | None, accepted("Compression and stall detection.", "the memory stays on one machine")] = None
    max_downtime_ms: Annotated[int | None, implemented("How long the guest may stand still; default 300.", minimum=1, maximum=2000000)] = (
        None
    )


class MigrationPolicy(Object):
    """How machines with certain labels move."""

    RESOURCE: ClassVar[Resource] = Resource("migrations.kubevirt.io", "v1alpha1", "migrationpolicies", "MigrationPolicy", namespaced=False)
    DEFINITION: ClassVar[Definition] = Definition()

    spec: MigrationPolicySpec
    status: Annotated[dict[str, Any] | None, shape(nullable=True)] = None
