"""What a VirtualMachineInstance reports."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Literal

from pilvi.api.field import DateTime, Part, Quantity, shape

__all__ = ["MachineCondition", "VirtualMachineInstanceStatus"]


class BackupVolume(Part):
    disk_target: str
    volume_name: str
    data_endpoint: str | None = None
    map_endpoint: str | None = None


class BackupStatus(Part):
    backup_msg: str | None = None
    backup_name: str | None = None
    checkpoint_name: str | None = None
    completed: bool | None = None
    end_timestamp: DateTime | None = None
    failed: bool | None = None
    quiesce_status: str | None = None
    start_timestamp: DateTime | None = None
    volumes: list[BackupVolume] = []


class ChangedBlockTracking(Part):
    state: str
    backup_status: Annotated[BackupStatus | None, shape(nullable=True)] = None


class MachineCondition(Part):
    status: str
    type: str
    last_probe_time: Annotated[DateTime | None, shape(nullable=True)] = None
    last_transition_time: Annotated[DateTime | None, shape(nullable=True)] = None
    message: str | None = None
    reason: str | None = None


class CpuTopology(Part):
    cores: int | None = None
    sockets: int | None = None
    threads: int | None = None


class GuestOsInfo(Part):
    id: str | None = None
    kernel_release: str | None = None
    kernel_version: str | None = None
    machine: str | None = None
    name: str | None = None
    pretty_name: str | None = None
    version: str | None = None
    version_id: str | None = None


class InterfaceStatus(Part):
    info_source: str | None = None
    interface_name: str | None = None
    ip_address: str | None = None
    ip_addresses: list[str] = []
    link_state: str | None = None
    mac: str | None = None
    name: str | None = None
    pod_interface_name: str | None = None
    queue_count: int | None = None


class FileChecksum(Part):
    checksum: Annotated[int | None, shape(minimum=0, maximum=4294967295)] = None


class KernelBootStatus(Part):
    initrd_info: FileChecksum | None = None
    kernel_info: FileChecksum | None = None


class MachineTypeStatus(Part):
    type: str | None = None


class MemoryStatus(Part):
    guest_at_boot: Quantity | None = None
    guest_current: Quantity | None = None
    guest_requested: Quantity | None = None
    memory_overhead: Quantity | None = None


class ClaimInfo(Part):
    access_modes: list[str] = []
    capacity: dict[str, Quantity] = {}
    claim_name: str | None = None
    filesystem_overhead: Annotated[str | None, shape(pattern="^(0(?:\\.\\d{1,3})?|1)$")] = None
    preallocated: bool | None = None
    requests: dict[str, Quantity] = {}
    volume_mode: str | None = None


class MigratedVolume(Part):
    volume_name: str
    destination_pvc_info: ClaimInfo | None = None
    source_pvc_info: ClaimInfo | None = None


class StallDetector(Part):
    completion_timeout_factor: str | None = None
    ewma_alpha: str | None = None
    patience_window_decay_factor: str | None = None
    precopy_possible_factor: str | None = None
    search_local_minima: bool | None = None
    stall_margin: Annotated[int | None, shape(minimum=0, maximum=100)] = None
    stall_progress_timeout: int | None = None
    switchover_timeout: int | None = None


class Experimental(Part):
    compression: Literal["none", "zstd"] | None = None
    stall_detector: StallDetector | None = None


class MigrationConfiguration(Part):
    allow_auto_converge: bool | None = None
    allow_post_copy: bool | None = None
    allow_workload_disruption: bool | None = None
    bandwidth_per_migration: Quantity | None = None
    completion_timeout_per_gib: int | None = None
    disable_tls: bool | None = None
    experimental: Experimental | None = None
    match_selinux_level_on_migration: bool | None = None
    max_downtime_ms: Annotated[int | None, shape(minimum=1, maximum=2000000)] = None
    network: str | None = None
    node_drain_taint_key: str | None = None
    parallel_migrations_per_cluster: int | None = None
    parallel_outbound_migrations_per_node: int | None = None
    progress_timeout: int | None = None
    unsafe_migration_override: bool | None = None
    utility_volumes_timeout: int | None = None


class SourceState(Part):
    domain_name: str | None = None
    domain_namespace: str | None = None
    migration_uid: str | None = None
    node: str | None = None
    node_selectors: dict[str, str] = {}
    persistent_state_pvc_name: str | None = None
    pod: str | None = None
    selinux_context: str | None = None
    sync_address: str | None = None
    virtual_machine_instance_uid: str | None = None


class TargetState(Part):
    attachment_pod_uid: str | None = None
    cpu_set: list[int] = []
    direct_migration_node_ports: dict[str, int] = {}
    domain_detected: bool | None = None
    domain_name: str | None = None
    domain_namespace: str | None = None
    domain_ready_timestamp: DateTime | None = None
    migration_uid: str | None = None
    node: str | None = None
    node_address: str | None = None
    node_topology: str | None = None
    persistent_state_pvc_name: str | None = None
    pod: str | None = None
    selinux_context: str | None = None
    sync_address: str | None = None
    virtual_machine_instance_uid: str | None = None


class MigrationState(Part):
    abort_requested: bool | None = None
    abort_status: str | None = None
    completed: bool | None = None
    end_timestamp: Annotated[DateTime | None, shape(nullable=True)] = None
    failed: bool | None = None
    failure_reason: str | None = None
    migration_configuration: MigrationConfiguration | None = None
    migration_network_type: str | None = None
    migration_policy_name: str | None = None
    migration_uid_: str | None = None
    mode: str | None = None
    source_node: str | None = None
    source_persistent_state_pvc_name: str | None = None
    source_pod: str | None = None
    source_state: SourceState | None = None
    start_timestamp: Annotated[DateTime | None, shape(nullable=True)] = None
    target_attachment_pod_uid: str | None = None
    target_cpu_set: list[int] = []
    target_direct_migration_node_ports: dict[str, int] = {}
    target_memory_overhead: Quantity | None = None
    target_node: str | None = None
    target_node_address: str | None = None
    target_node_domain_detected: bool | None = None
    target_node_domain_ready_timestamp: DateTime | None = None
    target_node_topology: str | None = None
    target_persistent_state_pvc_name: str | None = None
    target_pod: str | None = None
    target_state: TargetState | None = None


class PhaseTransitionTimestamp(Part):
    phase: str | None = None
    phase_transition_timestamp: DateTime | None = None


class TopologyHints(Part):
    tsc_frequency: int | None = None


class HotplugVolume(Part):
    attach_pod_name: str | None = None
    attach_pod_uid: str | None = None


class MemoryDumpVolume(Part):
    claim_name: str | None = None
    end_timestamp: DateTime | None = None
    start_timestamp: DateTime | None = None
    target_file_name: str | None = None


class VolumeStatus(Part):
    name: str
    target: str
    container_disk_volume: FileChecksum | None = None
    hotplug_volume: HotplugVolume | None = None
    memory_dump_volume: MemoryDumpVolume | None = None
    message: str | None = None
    persistent_volume_claim_info: ClaimInfo | None = None
    phase: str | None = None
    reason: str | None = None
    size: int | None = None


class VirtualMachineInstanceStatus(Part):
    vsock_cid: Annotated[int | None, shape(minimum=0, maximum=4294967295)] = None
    active_pods: dict[str, str] = {}
    changed_block_tracking: Annotated[ChangedBlockTracking | None, shape(nullable=True)] = None
    conditions: list[MachineCondition] = []
    current_cpu_topology: CpuTopology | None = None
    evacuation_node_name: str | None = None
    fs_freeze_status: str | None = None
    guest_os_info: GuestOsInfo | None = None
    interfaces: list[InterfaceStatus] = []
    kernel_boot_status: KernelBootStatus | None = None
    launcher_container_image_version: str | None = None
    machine: MachineTypeStatus | None = None
    memory: MemoryStatus | None = None
    migrated_volumes: list[MigratedVolume] = []
    migration_method: str | None = None
    migration_state: MigrationState | None = None
    migration_transport: str | None = None
    node_name: str | None = None
    phase: str | None = None
    phase_transition_timestamps: list[PhaseTransitionTimestamp] = []
    qos_class: str | None = None
    reason: str | None = None
    runtime_user: int | None = None
    selinux_context: str | None = None
    topology_hints: TopologyHints | None = None
    virtual_machine_revision_name: str | None = None
    volume_status: list[VolumeStatus] = []
