"""The parts of Kubernetes' own API (core/v1, meta/v1) that several kinds embed. Descriptions are at the fields that use them."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar, Literal

from pilvi.api.field import DateTime, IntOrString, Part, Quantity, shape

__all__ = [
    "ATOMIC",
    "Affinity",
    "Condition",
    "Empty",
    "HTTPGetAction",
    "HTTPHeader",
    "LabelSelector",
    "LabelSelectorRequirement",
    "LocalObjectReference",
    "Metadata",
    "NodeAffinity",
    "NodeSelector",
    "NodeSelectorRequirement",
    "NodeSelectorTerm",
    "ObjectMeta",
    "ObjectReference",
    "OpenMetadata",
    "OwnerReference",
    "PodAffinity",
    "PodAffinityTerm",
    "PreferredSchedulingTerm",
    "ResourceClaim",
    "ResourceRequirements",
    "TCPSocketAction",
    "Toleration",
    "TopologySpreadConstraint",
    "WeightedPodAffinityTerm",
]

ATOMIC: dict[str, Any] = {"x-kubernetes-map-type": "atomic"}


class Empty(Part):
    """An object whose presence alone says something."""


class OwnerReference(Part):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Part):
    """The metadata that controllers use; the API server owns its schema."""

    name: str = ""
    namespace: str = ""
    generate_name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []
    owner_references: list[OwnerReference] = []
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None


class Metadata(Part):
    """Labels and annotations for objects made from this one."""

    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}


class OpenMetadata(Metadata):
    """Metadata of a template: labels and annotations are passed on; anything else is kept as written."""

    SCHEMA: ClassVar[dict[str, Any]] = {"nullable": True, "x-kubernetes-preserve-unknown-fields": True}

    name: str | None = None
    namespace: str | None = None


class Condition(Part):
    """One condition as meta/v1 has it."""

    type: Annotated[str, shape(max_length=316)]
    status: Literal["True", "False", "Unknown"]
    last_transition_time: DateTime
    reason: Annotated[str, shape(min_length=1, max_length=1024)]
    message: Annotated[str, shape(max_length=32768)]
    observed_generation: Annotated[int | None, shape(minimum=0)] = None


class LocalObjectReference(Part):
    SCHEMA: ClassVar[dict[str, Any]] = ATOMIC

    name: Annotated[str, shape(default="")] = ""


class ObjectReference(Part):
    SCHEMA: ClassVar[dict[str, Any]] = ATOMIC

    api_version: str | None = None
    field_path: str | None = None
    kind: str | None = None
    name: str | None = None
    namespace: str | None = None
    resource_version: str | None = None
    uid: str | None = None


class ResourceClaim(Part):
    name: str
    request: str | None = None


class ResourceRequirements(Part):
    claims: Annotated[list[ResourceClaim], shape(list_map=["name"])] = []
    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}


class LabelSelectorRequirement(Part):
    key: str
    operator: str
    values: list[str] = []


class LabelSelector(Part):
    SCHEMA: ClassVar[dict[str, Any]] = ATOMIC

    match_expressions: list[LabelSelectorRequirement] = []
    match_labels: dict[str, str] = {}


class NodeSelectorRequirement(Part):
    key: str
    operator: str
    values: list[str] = []


class NodeSelectorTerm(Part):
    SCHEMA: ClassVar[dict[str, Any]] = ATOMIC

    match_expressions: list[NodeSelectorRequirement] = []
    match_fields: list[NodeSelectorRequirement] = []


class NodeSelector(Part):
    SCHEMA: ClassVar[dict[str, Any]] = ATOMIC

    node_selector_terms: list[NodeSelectorTerm]


class PreferredSchedulingTerm(Part):
    preference: NodeSelectorTerm
    weight: int


class NodeAffinity(Part):
    preferred_during_scheduling_ignored_during_execution: list[PreferredSchedulingTerm] = []
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class PodAffinityTerm(Part):
    topology_key: str
    label_selector: LabelSelector | None = None
    match_label_keys: list[str] = []
    mismatch_label_keys: list[str] = []
    namespace_selector: LabelSelector | None = None
    namespaces: list[str] = []


class WeightedPodAffinityTerm(Part):
    pod_affinity_term: PodAffinityTerm
    weight: int


class PodAffinity(Part):
    preferred_during_scheduling_ignored_during_execution: list[WeightedPodAffinityTerm] = []
    required_during_scheduling_ignored_during_execution: list[PodAffinityTerm] = []


class Affinity(Part):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class Toleration(Part):
    effect: str | None = None
    key: str | None = None
    operator: str | None = None
    toleration_seconds: int | None = None
    value: str | None = None


class TopologySpreadConstraint(Part):
    max_skew: int
    topology_key: str
    when_unsatisfiable: str
    label_selector: LabelSelector | None = None
    match_label_keys: list[str] = []
    min_domains: int | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None


class HTTPHeader(Part):
    name: str
    value: str


class HTTPGetAction(Part):
    port: IntOrString
    host: str | None = None
    http_headers: list[HTTPHeader] = []
    path: str | None = None
    scheme: str | None = None


class TCPSocketAction(Part):
    port: IntOrString
    host: str | None = None
