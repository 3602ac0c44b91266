"""How a struct field says what it means, how far it is supported, and what its values may be.

Every kind of the API is a tree of `Part` structs. A field reads

    replicas: Annotated[int, accepted("API servers wanted.", "one runs until replicas are built", when="self > 1")] = 2

and the custom resource definition, the admission policies and the field reference are made from exactly this (`crd.py`, `policies.py`,
`document.py`). A spec field that carries no such note is accepted and not implemented yet; what is below it needs no note either.
"""

from enum import Enum
from typing import Annotated, Any, ClassVar, TypeAlias

import msgspec

__all__ = [
    "DateTime",
    "Field",
    "IntOrString",
    "Level",
    "Part",
    "Quantity",
    "accepted",
    "camel",
    "implemented",
    "rejected",
    "shape",
]


class Level(Enum):
    """How far a field is supported."""

    IMPLEMENTED = "implemented"
    ACCEPTED = "accepted"  # has no effect; whoever sets it gets a warning
    REJECTED = "rejected"  # ignoring it would change the meaning or the safety; whoever sets it gets an error


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one field beside its name and type.

    `reason` completes "accepted:" or "rejected:", `instead` says what to write, both without a full stop. `when` is a CEL condition over
    `self` (the field's value): the level holds only for such values, for all others the field is implemented. `schema` are keywords of
    the OpenAPI schema; `default` belongs there when the Python default does not already say it, and `required` marks a required field
    that has a default.
    """

    level: Level | None = None
    doc: str = ""
    reason: str = ""
    instead: str = ""
    when: str = ""
    required: bool = False
    schema: dict[str, Any] = {}

    def __hash__(self) -> int:
        """Unions of annotated types hash their members; the schema's dict cannot."""
        return hash((self.level, self.doc, self.reason))

    @property
    def description(self) -> str:
        """The text that `kubectl explain` shows."""
        if self.level is Level.ACCEPTED:
            return f"{self.doc} Accepted: {self.reason}.".strip()
        if self.level is Level.REJECTED:
            return f"{self.doc} Rejected: {self.reason}. Instead: {self.instead}.".strip()
        return self.doc


NOT_YET = Field(level=Level.ACCEPTED, reason="not implemented yet")
"""Stands for the note of a spec field that has none."""


# JSON names that plain camelCase does not give, by Python name. Upstream is not consistent, so whole names are listed.
SPELLING = {
    "completion_timeout_per_gib": "completionTimeoutPerGiB",
    "allow_address_as_external_ip": "allowAddressAsExternalIP",
    "allow_ew_traffic": "allowEWTraffic",
    "attach_pod_uid": "attachPodUID",
    "attachment_pod_uid": "attachmentPodUID",
    "autoattach_vsock": "autoattachVSOCK",
    "cert_sans": "certSANs",
    "configuration_json_patches": "configurationJSONPatches",
    "connect_url": "connectURL",
    "container_id": "containerID",
    "core_dns": "coreDNS",
    "current_cpu_topology": "currentCPUTopology",
    "data_volume_ttl_seconds": "dataVolumeTTLSeconds",
    "dedicated_io_thread": "dedicatedIOThread",
    "destination_pvc_info": "destinationPVCInfo",
    "dhcp_v4_options_uuid": "dhcpV4OptionsUUID",
    "dhcp_v6_options_uuid": "dhcpV6OptionsUUID",
    "disable_tls": "disableTLS",
    "dns_service_ips": "dnsServiceIPs",
    "downward_api": "downwardAPI",
    "dst_ips": "dstIPs",
    "enable_dhcp": "enableDHCP",
    "enable_external_lb_address": "enableExternalLBAddress",
    "enable_ipv6_ra": "enableIPv6RA",
    "front_proxy_ca": "frontProxyCA",
    "guest_os_info": "guestOSInfo",
    "host_ip": "hostIP",
    "http_proxy": "HTTPProxy",
    "https_proxy": "HTTPSProxy",
    "import_data_volume_name": "DataVolumeName",
    "import_digest": "Digest",
    "init_image_url": "initImageURL",
    "ipv6_ra_configs": "ipv6RAConfigs",
    "last_failed_vmi_uid": "lastFailedVMIUID",
    "last_imported_pvc": "lastImportedPVC",
    "local_connect_ip": "localConnectIP",
    "match_selinux_level_on_migration": "matchSELinuxLevelOnMigration",
    "mcast_querier_ip": "mcastQuerierIP",
    "mcast_querier_mac": "mcastQuerierMAC",
    "migration_id": "migrationID",
    "migration_uid": "migrationUID",
    "min_tls_version": "minTLSVersion",
    "new_smbios_serial": "newSMBiosSerial",
    "next_hop_ip": "nextHopIP",
    "persistent_state_pvc_name": "persistentStatePVCName",
    "pod_ip": "podIP",
    "policy_routing_table_id": "policyRoutingTableID",
    "preferred_cpu_features": "preferredCPUFeatures",
    "preferred_cpu_topology": "preferredCPUTopology",
    "preferred_disk_io": "preferredDiskIO",
    "preferred_tpm": "preferredTPM",
    "preferred_virtual_gpu_options": "preferredVirtualGPUOptions",
    "provider_id": "providerID",
    "ram_fb": "ramFB",
    "rule_id": "ruleID",
    "source_persistent_state_pvc_name": "sourcePersistentStatePVCName",
    "source_pvc_info": "sourcePVCInfo",
    "source_uid": "sourceUID",
    "src_ips": "srcIPs",
    "target_attachment_pod_uid": "targetAttachmentPodUID",
    "target_cpu_set": "targetCPUSet",
    "target_persistent_state_pvc_name": "targetPersistentStatePVCName",
    "trusted_ca_proxy": "trustedCAProxy",
    "u2o_interconnection_ip": "u2oInterconnectionIP",
    "u2o_interconnection_mac": "u2oInterconnectionMAC",
    "u2o_interconnection_vpc": "u2oInterconnectionVPC",
    "upload_proxy_ca": "uploadProxyCA",
    "upload_proxy_url": "uploadProxyURL",
    "upload_proxy_url_override": "uploadProxyURLOverride",
    "v4available_ip_range": "v4availableIPrange",
    "v4available_ips": "v4availableIPs",
    "v4using_ip_range": "v4usingIPrange",
    "v4using_ips": "v4usingIPs",
    "v6available_ip_range": "v6availableIPrange",
    "v6available_ips": "v6availableIPs",
    "v6using_ip_range": "v6usingIPrange",
    "v6using_ips": "v6usingIPs",
    "virtual_gpu_options": "virtualGPUOptions",
    "virtual_machine_instance_uid": "virtualMachineInstanceUID",
    "vm_ipv6_network_cidr": "vmIPv6NetworkCIDR",
    "vm_network_cidr": "vmNetworkCIDR",
    "vsock_cid": "VSOCKCID",
}


def camel(name: str) -> str:
    """The JSON name of a field."""
    if name in SPELLING:
        return SPELLING[name]
    head, *tail = name.rstrip("_").split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in tail)


_SCHEMA_WORDS = {"list_map": "x-kubernetes-list-map-keys", "list_type": "x-kubernetes-list-type"}


def _keywords(schema: dict[str, Any]) -> dict[str, Any]:
    words = {_SCHEMA_WORDS.get(name) or camel(name): value for name, value in schema.items()}
    if "x-kubernetes-list-map-keys" in words:
        words["x-kubernetes-list-type"] = "map"
    return words


def implemented(doc: str, *, required: bool = False, **schema: Any) -> Field:
    """A field that does what upstream's documentation says."""
    return Field(level=Level.IMPLEMENTED, doc=doc, required=required, schema=_keywords(schema))


def accepted(doc: str, reason: str = NOT_YET.reason, *, when: str = "", **schema: Any) -> Field:
    """A field that has no effect; the reason is part of the warning."""
    return Field(level=Level.ACCEPTED, doc=doc, reason=reason, when=when, schema=_keywords(schema))


def rejected(doc: str, reason: str, instead: str, *, when: str = "", **schema: Any) -> Field:
    """A field that must not be set; reason and what to write instead are part of the error."""
    return Field(level=Level.REJECTED, doc=doc, reason=reason, instead=instead, when=when, schema=_keywords(schema))


def shape(doc: str = "", *, required: bool = False, **schema: Any) -> Field:
    """Bounds of a value and nothing on support: for status, metadata and what lies below an accepted field."""
    return Field(doc=doc, required=required, schema=_keywords(schema))


DateTime: TypeAlias = Annotated[str, shape(format="date-time")]
IntOrString: TypeAlias = int | str
Quantity: TypeAlias = Annotated[
    int | str,
    shape(pattern=r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"),
]


class Part(msgspec.Struct, omit_defaults=True, rename=camel):
    """Base of every struct below a kind. JSON names are camelCase; unknown fields are ignored when decoding; defaults are not written."""

    SCHEMA: ClassVar[dict[str, Any]] = {}
    """Keywords for the schema of the whole object: map type, CEL rules, unknown fields kept."""
