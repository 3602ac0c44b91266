"""Cluster API's control plane kinds for Kamaji: a TenantControlPlane for one Cluster."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar, Literal

from pilvi.api.core import Affinity, Condition, Metadata, ResourceRequirements, Toleration, TopologySpreadConstraint
from pilvi.api.field import Part, accepted, implemented, rejected, shape
from pilvi.api.kamaji.parts import (
    ADDRESSED,
    DIRECT,
    NO_CONTAINERS,
    NO_POD,
    NO_PROXY,
    NO_VOLUMES,
    ONLY_NOTED,
    WITHOUT_PROXY,
    AdmissionController,
    ComponentProbes,
    CoreDNS,
    DataStoreOverride,
    Konnectivity,
    Kubelet,
    KubeProxy,
    ProcessResources,
    ServicePort,
    Strategy,
    VolumeMount,
    data_store_rules,
)
from pilvi.api.object import Column, Definition, Object, Scale
from pilvi.api.resource import Resource

__all__ = [
    "ControlPlaneAddons",
    "ControlPlaneComponent",
    "ControlPlaneDeployment",
    "ControlPlaneEndpoint",
    "ControlPlaneInitialization",
    "ControlPlaneNetwork",
    "KamajiControlPlane",
    "KamajiControlPlaneSpec",
    "KamajiControlPlaneStatus",
    "KamajiControlPlaneTemplate",
]

GROUP, VERSION = "controlplane.cluster.x-k8s.io", "v1alpha2"


class ControlPlaneCoreDNS(CoreDNS):
    dns_service_ips: Annotated[list[str], implemented("Addresses of the DNS Service; default the tenth of the Service range.")] = []


class ControlPlaneAddons(Part):
    """An add-on that is present, even as {}, is installed."""

    core_dns: Annotated[ControlPlaneCoreDNS | None, implemented("CoreDNS.")] = None
    konnectivity: Annotated[Konnectivity | None, accepted("Konnectivity.", DIRECT)] = None
    kube_proxy: Annotated[KubeProxy | None, implemented("kube-proxy.")] = None


class ControlPlaneComponent(Part):
    container_image_name: Annotated[
        str | None, accepted("Name of the image.", "the components are binaries of the kit, not images", min_length=1)
    ] = None
    extra_args: Annotated[list[str], implemented("More flags.")] = []
    extra_volume_mounts: Annotated[list[VolumeMount], rejected("More mounts.", NO_VOLUMES, "extraArgs, as far as they need no files")] = []
    probes: Annotated[ComponentProbes | None, accepted("Probes.", NO_POD)] = None
    resources: Annotated[ProcessResources | None, implemented("Requests and limits.")] = None


class ControlPlaneEndpoint(Part):
    SCHEMA: ClassVar[dict[str, Any]] = {"minProperties": 1}

    host: Annotated[str | None, implemented("Address of the API server.", min_length=1, max_length=512)] = None
    port: Annotated[int | None, implemented("Its port.", minimum=1, maximum=65535)] = None


class ExternalClusterReference(Part):
    deployment_namespace: str
    kubeconfig_secret_key: str
    kubeconfig_secret_name: str
    kubeconfig_secret_namespace: str | None = None


class ControlPlaneDeployment(Part):
    additional_metadata: Annotated[Metadata | None, accepted("Labels and annotations of the Deployment.", NO_POD)] = None
    affinity: Annotated[Affinity | None, accepted("Placement.", NO_POD)] = None
    external_cluster_reference: Annotated[
        ExternalClusterReference | None,
        rejected("Another cluster that runs the control plane.", "this cloud runs it", "leave it out and apply the object in that cluster"),
    ] = None
    extra_containers: Annotated[list[dict[str, Any]], rejected("More containers.", NO_CONTAINERS, "a Deployment inside the cluster")] = []
    extra_init_containers: Annotated[
        list[dict[str, Any]], rejected("More init containers.", NO_CONTAINERS, "a Job inside the cluster")
    ] = []
    extra_volumes: Annotated[list[dict[str, Any]], rejected("More volumes.", NO_VOLUMES, "extraArgs, as far as they need no files")] = []
    node_selector: Annotated[dict[str, str], accepted("Placement.", NO_POD)] = {}
    pod_additional_metadata: Annotated[Metadata | None, accepted("Labels and annotations of the Pods.", NO_POD)] = None
    probes: Annotated[ComponentProbes | None, accepted("Probes.", NO_POD)] = None
    runtime_class_name: Annotated[str | None, accepted("Container runtime.", NO_POD)] = None
    service_account_name: Annotated[str | None, accepted("ServiceAccount of the Pods.", NO_POD)] = None
    strategy: Annotated[Strategy | None, accepted("How Pods are replaced.", NO_POD)] = None
    tolerations: Annotated[list[Toleration], accepted("Placement.", NO_POD)] = []
    topology_spread_constraints: Annotated[list[TopologySpreadConstraint], accepted("Placement.", NO_POD)] = []


class Kine(Part):
    extra_args: list[str] = []
    resources: ResourceRequirements | None = None


class ControlPlaneGateway(Part):
    hostname: str
    name: str
    namespace: str
    extra_annotations: dict[str, str] = {}
    extra_labels: dict[str, str] = {}
    port: int | None = None
    section_name: str | None = None


class ControlPlaneIngress(Part):
    hostname: str
    class_name: str | None = None
    extra_annotations: dict[str, str] = {}
    extra_labels: dict[str, str] = {}


class LoadBalancerConfig(Part):
    load_balancer_class: Annotated[str | None, accepted("Class of the load balancer.", "the cloud has one", min_length=1)] = None
    load_balancer_source_ranges: Annotated[
        list[str],
        rejected(
            "Who may reach the API server.", "not implemented yet, and everyone could", "leave it out, and put a firewall before the cloud"
        ),
    ] = []


class ControlPlaneNetwork(Part):
    additional_service_ports: Annotated[list[ServicePort], accepted("More ports.", "only the API server listens there")] = []
    advertise_address: Annotated[str | None, implemented("Address that the API server advertises; default its cloud address.")] = None
    cert_sans: Annotated[list[str], implemented("More names and addresses in the API server's certificate.")] = []
    dns_service_ips: Annotated[list[str], implemented("Addresses of the DNS Service; default the tenth of the Service range.")] = []
    gateway: Annotated[ControlPlaneGateway | None, rejected("Access through a Gateway.", NO_PROXY, WITHOUT_PROXY)] = None
    ingress: Annotated[ControlPlaneIngress | None, rejected("Access through an Ingress.", NO_PROXY, WITHOUT_PROXY)] = None
    load_balancer_config: Annotated[LoadBalancerConfig | None, implemented("The load balancer, each field with a level of its own.")] = None
    service_address: Annotated[str | None, implemented("Cloud address that is wanted; default any free one.")] = None
    service_annotations: Annotated[dict[str, str], implemented("Annotations of the Service.")] = {}
    service_labels: Annotated[dict[str, str], implemented("Labels of the Service.")] = {}
    service_type: Annotated[
        Literal["ClusterIP", "NodePort", "LoadBalancer"],
        accepted("Type of the Service.", ADDRESSED, when="self != 'LoadBalancer'"),
    ] = "LoadBalancer"


class KamajiControlPlaneFields(Part):
    """What KamajiControlPlane and its template both have."""

    addons: Annotated[ControlPlaneAddons | None, implemented("What is installed in the cluster.")] = None
    admission_controllers: Annotated[
        list[AdmissionController], implemented("Admission plug-ins to turn on beside the API server's own.")
    ] = []
    api_server: Annotated[ControlPlaneComponent | None, implemented("The API server.")] = None
    controller_manager: Annotated[ControlPlaneComponent | None, implemented("The controller manager.")] = None
    data_store_name: Annotated[
        str | None,
        implemented(
            "Name of the DataStore. Only default is served, an etcd of its own for every control plane; another one is a condition."
        ),
    ] = None
    data_store_overrides: Annotated[
        list[DataStoreOverride], rejected("Other stores for some resources.", "there is one store", "leave it out")
    ] = []
    data_store_schema: Annotated[str | None, accepted("Prefix of the data in the store.", ONLY_NOTED)] = None
    data_store_username: Annotated[str | None, accepted("User of the store.", ONLY_NOTED)] = None
    deployment: Annotated[ControlPlaneDeployment | None, implemented("The Deployment, each field with a level of its own.")] = None
    kine: Annotated[Kine | None, accepted("Settings of kine.", "there is no kine; the store is etcd")] = None
    kubelet: Annotated[
        Kubelet | None,
        implemented(
            "Settings of the kubelets that join.",
            default={"cgroupfs": "systemd", "preferredAddressTypes": ["InternalIP", "ExternalIP", "Hostname"]},
        ),
    ] = None
    network: Annotated[
        ControlPlaneNetwork | None, implemented("How the API server is reached.", default={"serviceType": "LoadBalancer"})
    ] = None
    registry: Annotated[str, accepted("Registry of the images.", "the components are binaries of the kit, not images")] = "registry.k8s.io"
    scheduler: Annotated[ControlPlaneComponent | None, implemented("The scheduler.")] = None


class KamajiControlPlaneSpec(KamajiControlPlaneFields, kw_only=True):
    version: Annotated[str, implemented("Kubernetes version, as v1.37.2 or 1.37.2.")]
    control_plane_endpoint: Annotated[
        ControlPlaneEndpoint | None, implemented("Where the API server answers; written when it is known.")
    ] = None
    replicas: Annotated[int, accepted("API servers wanted.", "one runs until replicas are built", when="self > 1", minimum=0)] = 2


class ControlPlaneInitialization(Part):
    control_plane_initialized: Annotated[bool | None, shape("The API server has answered; never goes back to false.")] = None


class KamajiControlPlaneStatus(Part):
    ready: Annotated[bool, shape("The API server answers.")]
    version: Annotated[str, shape("Version that runs.")]
    external_managed_control_plane: Annotated[bool, shape("There are no control plane machines.", required=True)] = True
    initialization: ControlPlaneInitialization | None = None
    replicas: Annotated[int | None, shape("API servers that run.")] = None
    ready_replicas: int | None = None
    available_replicas: int | None = None
    up_to_date_replicas: int | None = None
    selector: str | None = None
    conditions: list[Condition] = []
    failure_reason: str | None = None
    failure_message: str | None = None


class KamajiControlPlane(Object):
    """The control plane of one Cluster, kept as a TenantControlPlane."""

    RESOURCE: ClassVar[Resource] = Resource(GROUP, VERSION, "kamajicontrolplanes", "KamajiControlPlane")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("ktcp",),
        categories=("cluster-api", "kamaji"),
        also_served=("v1alpha1",),
        columns=(
            Column("Version", ".spec.version"),
            Column("Initialized", ".status.initialization.controlPlaneInitialized", "boolean"),
            Column("Ready", ".status.ready", "boolean"),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        scale=Scale(spec=".spec.replicas", status=".status.replicas", selector=".status.selector"),
        version_path="spec.version",
        rules=data_store_rules("dataStoreName", "dataStoreSchema", "dataStoreUsername"),
    )

    spec: KamajiControlPlaneSpec | None = None
    status: KamajiControlPlaneStatus | None = None


class KamajiControlPlaneTemplateResource(Part):
    spec: Annotated[KamajiControlPlaneFields, implemented("The KamajiControlPlane, without version and replicas.")]
    metadata: Annotated[Metadata | None, implemented("Labels and annotations of the KamajiControlPlane.")] = None


class KamajiControlPlaneTemplateSpec(Part):
    template: Annotated[KamajiControlPlaneTemplateResource, implemented("What KamajiControlPlanes are made from.")]


class KamajiControlPlaneTemplate(Object):
    """Template of KamajiControlPlanes, for a ClusterClass."""

    RESOURCE: ClassVar[Resource] = Resource(GROUP, VERSION, "kamajicontrolplanetemplates", "KamajiControlPlaneTemplate")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("ktcpt",), categories=("cluster-api", "kamaji"), also_served=("v1alpha1",), status=False
    )

    spec: KamajiControlPlaneTemplateSpec | None = None
