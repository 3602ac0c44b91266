"""Cluster API's infrastructure kinds for KubeVirt (CAPK): a cluster's network and endpoint, and the machines of its workers."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, ClassVar, Literal

from pilvi.api.core import Metadata, ObjectReference, OpenMetadata
from pilvi.api.field import DateTime, Part, Quantity, accepted, implemented, rejected, shape
from pilvi.api.kubevirt.datavolumes import no_copies_across
from pilvi.api.kubevirt.machine import VirtualMachineSpec
from pilvi.api.kubevirt.rules import machine_rules, machine_variables, name_rule
from pilvi.api.object import Column, Definition, Object, Rule
from pilvi.api.resource import Resource

__all__ = [
    "CapkCondition",
    "Endpoint",
    "Initialization",
    "KubevirtCluster",
    "KubevirtClusterSpec",
    "KubevirtClusterStatus",
    "KubevirtClusterTemplate",
    "KubevirtMachine",
    "KubevirtMachineSpec",
    "KubevirtMachineStatus",
    "KubevirtMachineTemplate",
    "MachineAddress",
]

GROUP, VERSION = "infrastructure.cluster.x-k8s.io", "v1alpha1"
ONE_CLOUD = "a cloud makes machines only for itself, and they would run here"


class Endpoint(Part):
    host: Annotated[str, implemented("Address of the cluster's API server.")]
    port: Annotated[int, implemented("Its port.", minimum=0, maximum=65535)]


class ServiceTemplateSpec(Part):
    type: str | None = None


class ServiceTemplate(Part):
    metadata: OpenMetadata | None = None
    spec: ServiceTemplateSpec | None = None


class SshKeys(Part):
    config_ref: ObjectReference | None = None
    data_secret_name: str | None = None


class KubevirtClusterSpec(Part):
    control_plane_endpoint: Annotated[
        Endpoint | None,
        implemented("Where the API server answers; taken from the control plane when it is not written here."),
    ] = None
    control_plane_service_template: Annotated[
        ServiceTemplate | None,
        accepted(
            "Service of a control plane made of machines.",
            "the control plane provider makes the Service; see serviceLabels and serviceAnnotations of KamajiControlPlane",
        ),
    ] = None
    infra_cluster_secret_ref: Annotated[
        ObjectReference | None,
        rejected("Secret with the kubeconfig of another cloud.", ONE_CLOUD, "leave it out and apply the object in that cloud"),
    ] = None
    ssh_keys: Annotated[SshKeys | None, accepted("Keys for the bootstrap check over SSH.", "the check needs no SSH")] = None


class CapkCondition(Part):
    """One condition as Cluster API's v1beta1 has it."""

    type: Annotated[str, shape(min_length=1, max_length=256)]
    status: str
    last_transition_time: DateTime
    severity: Annotated[str | None, shape(max_length=32)] = None
    reason: Annotated[str | None, shape(min_length=1, max_length=256)] = None
    message: Annotated[str | None, shape(min_length=1, max_length=10240)] = None


class Initialization(Part):
    """Cluster API's v1beta2 contract."""

    provisioned: Annotated[bool | None, shape("The infrastructure is complete; never goes back to false.")] = None


class FailureDomain(Part):
    attributes: dict[str, str] = {}
    control_plane: bool | None = None


class KubevirtClusterStatus(Part):
    ready: Annotated[bool, shape("The infrastructure is complete.", required=True)] = False
    initialization: Initialization | None = None
    conditions: list[CapkCondition] = []
    failure_domains: dict[str, FailureDomain] = {}


class KubevirtCluster(Object):
    """Infrastructure of one cluster: its VPC and subnet, and the endpoint of its API server."""

    RESOURCE: ClassVar[Resource] = Resource(GROUP, VERSION, "kubevirtclusters", "KubevirtCluster")
    DEFINITION: ClassVar[Definition] = Definition(categories=("cluster-api",))

    spec: KubevirtClusterSpec | None = None
    status: KubevirtClusterStatus | None = None


class KubevirtClusterTemplateResource(Part):
    spec: Annotated[KubevirtClusterSpec, implemented("The KubevirtCluster.")]
    metadata: Annotated[Metadata | None, implemented("Labels and annotations of the KubevirtCluster.")] = None


class KubevirtClusterTemplateSpec(Part):
    template: Annotated[KubevirtClusterTemplateResource, implemented("What KubevirtClusters are made from.")]


def immutable(kind: str) -> Rule:
    """A template is used by name; whoever changes it gets told to make another."""
    return Rule(
        "oldObject == null || object.spec == oldObject.spec",
        f"'spec of a {kind} cannot change, because objects made from it would not; make a new {kind} with another name'"
        " + ' and refer to that one, for example ' + object.metadata.name + '-2'",
    )


class KubevirtClusterTemplate(Object):
    """Template of KubevirtClusters, for a ClusterClass."""

    RESOURCE: ClassVar[Resource] = Resource(GROUP, VERSION, "kubevirtclustertemplates", "KubevirtClusterTemplate")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("kct",), categories=("cluster-api",), status=False, rules=(immutable("KubevirtClusterTemplate"),)
    )

    spec: KubevirtClusterTemplateSpec | None = None


class MachineMetadata(OpenMetadata):
    annotations: Annotated[dict[str, str], implemented("Annotations of the VirtualMachine and its instances.")] = {}
    labels: Annotated[dict[str, str], implemented("Labels of the VirtualMachine and its instances.")] = {}
    name: Annotated[str | None, accepted("Name of the VirtualMachine.", "it has the name of its KubevirtMachine")] = None
    namespace: Annotated[
        str | None,
        rejected(
            "Namespace of the VirtualMachine.",
            "it is in that of its KubevirtMachine",
            "leave it out, or apply this object in that namespace",
            when="self != '' && self != object.metadata.namespace",
        ),
    ] = None


class VirtualMachineTemplate(Part):
    metadata: Annotated[MachineMetadata | None, implemented("Metadata of the VirtualMachine.")] = None
    spec: Annotated[VirtualMachineSpec | None, implemented("The VirtualMachine.")] = None


class BootstrapCheck(Part):
    check_strategy: Annotated[
        Literal["none", "ssh"],
        accepted("How a finished bootstrap is seen.", "it is seen from the machine itself, without SSH", when="self == 'ssh'"),
    ] = "ssh"


class KubevirtMachineSpec(Part):
    infra_cluster_secret_ref: Annotated[
        ObjectReference | None,
        rejected("Secret with the kubeconfig of another cloud.", ONE_CLOUD, "leave it out and apply the object in that cloud"),
    ] = None
    provider_id: Annotated[str | None, implemented("kubevirt://<name>; written by the provider.")] = None
    virtual_machine_bootstrap_check: Annotated[BootstrapCheck | None, implemented("When the machine counts as bootstrapped.")] = None
    virtual_machine_template: Annotated[VirtualMachineTemplate | None, implemented("The machine.")] = None


class MachineAddress(Part):
    type: Literal["Hostname", "ExternalIP", "InternalIP", "ExternalDNS", "InternalDNS"]
    address: Annotated[str, shape(min_length=1, max_length=256)]


class KubevirtMachineStatus(Part):
    ready: Annotated[bool, shape("The machine runs and has a provider id.", required=True)] = False
    initialization: Initialization | None = None
    addresses: list[MachineAddress] = []
    conditions: list[CapkCondition] = []
    failure_message: str | None = None
    failure_reason: str | None = None
    load_balancer_configured: bool | None = None
    nodeupdated: Annotated[bool | None, shape("The cluster's Node has the provider id.")] = None


def worker_rules(template: str, path: str) -> tuple[Rule, ...]:
    """Rules of a machine that becomes a node; `template` is the CEL expression of its VirtualMachineSpec, `path` the field path."""
    return (
        Rule(
            f"{template}.?template.?spec.?volumes.orValue([]).exists(volume, has(volume.containerDisk) || has(volume.dataVolume)"
            " || has(volume.persistentVolumeClaim) || has(volume.ephemeral))",
            f"'{path}.template.spec.volumes: the machine has no image;"
            " add a volume with containerDisk.image pilvi.dev/node:<Kubernetes version>'",
        ),
        *machine_rules(f"{path}.template.spec"),
        no_copies_across(template, path),
    )


class KubevirtMachine(Object):
    """The machine behind one Cluster API Machine."""

    RESOURCE: ClassVar[Resource] = Resource(GROUP, VERSION, "kubevirtmachines", "KubevirtMachine")
    DEFINITION: ClassVar[Definition] = Definition(
        categories=("cluster-api",),
        columns=(Column("Age", ".metadata.creationTimestamp", "date"), Column("Ready", ".status.ready", "boolean")),
        variables=machine_variables("object.?spec.?virtualMachineTemplate.?spec.?template.?spec.orValue({})"),
        rules=(
            name_rule("KubevirtMachine", "a host name"),
            *worker_rules("object.?spec.?virtualMachineTemplate.?spec", "spec.virtualMachineTemplate.spec"),
        ),
    )

    spec: KubevirtMachineSpec | None = None
    status: KubevirtMachineStatus | None = None


class KubevirtMachineTemplateResource(Part):
    spec: Annotated[KubevirtMachineSpec, implemented("The KubevirtMachine.")]


class KubevirtMachineTemplateSpec(Part):
    template: Annotated[KubevirtMachineTemplateResource, implemented("What KubevirtMachines are made from.")]


class KubevirtMachineTemplateStatus(Part):
    capacity: Annotated[dict[str, Quantity], shape("cpu and memory of one machine, for scaling from zero.")] = {}


class KubevirtMachineTemplate(Object):
    """Template of KubevirtMachines. Its spec does not change; a new template with another name rolls the machines."""

    RESOURCE: ClassVar[Resource] = Resource(GROUP, VERSION, "kubevirtmachinetemplates", "KubevirtMachineTemplate")
    DEFINITION: ClassVar[Definition] = Definition(
        categories=("cluster-api",),
        status=False,
        variables=machine_variables("object.?spec.?template.?spec.?virtualMachineTemplate.?spec.?template.?spec.orValue({})"),
        rules=(
            immutable("KubevirtMachineTemplate"),
            *worker_rules("object.?spec.?template.?spec.?virtualMachineTemplate.?spec", "spec.template.spec.virtualMachineTemplate.spec"),
        ),
    )

    spec: KubevirtMachineTemplateSpec | None = None
    status: KubevirtMachineTemplateStatus | None = None
