"""TenantControlPlane: the API server of one cluster with all that it needs."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar, Literal

from pilvi.api.core import Affinity, Metadata, ResourceRequirements, Toleration, TopologySpreadConstraint
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
    AgentDefault,
    ComponentProbes,
    CoreDNS,
    DataStoreOverride,
    KonnectivityAgent,
    KonnectivityServer,
    Kubelet,
    KubeProxy,
    Probe,
    ProcessResources,
    ServerDefault,
    ServicePort,
    Strategy,
    VolumeMount,
    data_store_rules,
)
from pilvi.api.kamaji.status import TenantControlPlaneStatus
from pilvi.api.networks import is_network
from pilvi.api.object import Column, Definition, Object, Rule, Scale
from pilvi.api.resource import Resource

__all__ = [
    "Addons",
    "ComponentResources",
    "ControlPlane",
    "Deployment",
    "ExtraArgs",
    "Kubernetes",
    "NetworkProfile",
    "ServiceSpec",
    "TenantControlPlane",
    "TenantControlPlaneSpec",
]


class ServiceSpec(Part):
    service_type: Annotated[
        Literal["ClusterIP", "NodePort", "LoadBalancer"],
        accepted("Type of the Service.", ADDRESSED, when="self != 'LoadBalancer'"),
    ]
    additional_metadata: Annotated[Metadata | None, implemented("Labels and annotations of the Service.")] = None
    additional_ports: Annotated[list[ServicePort], accepted("More ports.", "only the API server listens there")] = []
    allocate_load_balancer_node_ports: Annotated[bool | None, accepted("Node ports.", "there are none", when="self")] = None


class AdditionalVolumeMounts(Part):
    api_server: list[VolumeMount] = []
    controller_manager: list[VolumeMount] = []
    scheduler: list[VolumeMount] = []


class ContainerSecurityContexts(Part):
    api_server: dict[str, Any] | None = None
    controller_manager: dict[str, Any] | None = None
    scheduler: dict[str, Any] | None = None


class ExtraArgs(Part):
    api_server: Annotated[list[str], implemented("More flags of the API server.")] = []
    controller_manager: Annotated[list[str], implemented("More flags of the controller manager.")] = []
    kine: Annotated[list[str], accepted("More flags of kine.", "there is no kine; the store is etcd")] = []
    scheduler: Annotated[list[str], implemented("More flags of the scheduler.")] = []


class Probes(Part):
    api_server: ComponentProbes | None = None
    controller_manager: ComponentProbes | None = None
    liveness: Probe | None = None
    readiness: Probe | None = None
    scheduler: ComponentProbes | None = None
    startup: Probe | None = None


class RegistrySettings(Part):
    api_server_image: str = "kube-apiserver"
    controller_manager_image: str = "kube-controller-manager"
    registry: str = "registry.k8s.io"
    scheduler_image: str = "kube-scheduler"
    tag_suffix: str | None = None


class ComponentResources(Part):
    api_server: Annotated[ProcessResources | None, implemented("The API server.")] = None
    controller_manager: Annotated[ProcessResources | None, implemented("The controller manager.")] = None
    kine: Annotated[ResourceRequirements | None, accepted("Kine.", "there is no kine; the store is etcd")] = None
    scheduler: Annotated[ProcessResources | None, implemented("The scheduler.")] = None


class Deployment(Part):
    additional_containers: Annotated[
        list[dict[str, Any]], rejected("More containers.", NO_CONTAINERS, "a Deployment inside the cluster")
    ] = []
    additional_init_containers: Annotated[
        list[dict[str, Any]], rejected("More init containers.", NO_CONTAINERS, "a Job inside the cluster")
    ] = []
    additional_metadata: Annotated[Metadata | None, accepted("Labels and annotations of the Deployment.", NO_POD)] = None
    additional_volume_mounts: Annotated[
        AdditionalVolumeMounts | None, rejected("More mounts.", NO_VOLUMES, "extraArgs, as far as they need no files")
    ] = None
    additional_volumes: Annotated[
        list[dict[str, Any]], rejected("More volumes.", NO_VOLUMES, "extraArgs, as far as they need no files")
    ] = []
    affinity: Annotated[Affinity | None, accepted("Placement.", NO_POD)] = None
    automount_service_account_token: Annotated[bool | None, accepted("Mounts a token.", NO_POD)] = None
    container_security_contexts: Annotated[
        ContainerSecurityContexts | None, accepted("Security of the containers.", "every process has its own user")
    ] = None
    extra_args: Annotated[ExtraArgs | None, implemented("More flags of the components.")] = None
    node_selector: Annotated[dict[str, str], accepted("Placement.", NO_POD)] = {}
    pod_additional_metadata: Annotated[Metadata | None, accepted("Labels and annotations of the Pods.", NO_POD)] = None
    pod_security_context: Annotated[dict[str, Any] | None, accepted("Security of the Pods.", "every process has its own user")] = None
    probes: Annotated[Probes | None, accepted("Probes.", NO_POD)] = None
    registry_settings: Annotated[
        RegistrySettings | None,
        accepted(
            "Where images come from.",
            "the components are binaries of the kit, not images",
            default={
                "apiServerImage": "kube-apiserver",
                "controllerManagerImage": "kube-controller-manager",
                "registry": "registry.k8s.io",
                "schedulerImage": "kube-scheduler",
            },
        ),
    ] = None
    replicas: Annotated[int, accepted("API servers wanted.", "one runs until replicas are built", when="self > 1", minimum=0)] = 2
    resources: Annotated[ComponentResources | None, implemented("Requests and limits of the components.")] = None
    runtime_class_name: Annotated[str | None, accepted("Container runtime.", NO_POD)] = None
    service_account_name: Annotated[str, accepted("ServiceAccount of the Pods.", NO_POD)] = "default"
    strategy: Annotated[
        Strategy | None,
        accepted(
            "How Pods are replaced.",
            NO_POD,
            default={"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}, "type": "RollingUpdate"},
        ),
    ] = None
    tolerations: Annotated[list[Toleration], accepted("Placement.", NO_POD)] = []
    topology_spread_constraints: Annotated[list[TopologySpreadConstraint], accepted("Placement.", NO_POD)] = []


class GatewayParent(Part):
    name: Annotated[str, shape(min_length=1, max_length=253)]
    group: str = "gateway.networking.k8s.io"
    kind: str = "Gateway"
    namespace: str | None = None
    port: int | None = None
    section_name: str | None = None


class Gateway(Part):
    additional_metadata: Metadata | None = None
    hostname: str | None = None
    parent_refs: list[GatewayParent] = []


class Ingress(Part):
    additional_metadata: Metadata | None = None
    hostname: str | None = None
    ingress_class_name: str | None = None


class ControlPlane(Part):
    service: Annotated[ServiceSpec, implemented("How the API server is reached.")]
    deployment: Annotated[Deployment | None, implemented("How the components run.")] = None
    gateway: Annotated[Gateway | None, rejected("Access through a Gateway.", NO_PROXY, WITHOUT_PROXY)] = None
    ingress: Annotated[Ingress | None, rejected("Access through an Ingress.", NO_PROXY, WITHOUT_PROXY)] = None


class Kubernetes(Part):
    kubelet: Annotated[Kubelet, implemented("Settings of the kubelets that join.")]
    version: Annotated[str, implemented("Kubernetes version, as v1.37.2 or 1.37.2.")]
    admission_controllers: Annotated[
        list[AdmissionController],
        implemented(
            "Admission plug-ins to turn on beside the API server's own.",
            default=[
                "CertificateApproval",
                "CertificateSigning",
                "CertificateSubjectRestriction",
                "DefaultIngressClass",
                "DefaultStorageClass",
                "DefaultTolerationSeconds",
                "LimitRanger",
                "MutatingAdmissionWebhook",
                "NamespaceLifecycle",
                "PersistentVolumeClaimResize",
                "Priority",
                "ResourceQuota",
                "RuntimeClass",
                "ServiceAccount",
                "StorageObjectInUseProtection",
                "TaintNodesByCondition",
                "ValidatingAdmissionWebhook",
            ],
        ),
    ] = []


class TenantKonnectivityServer(KonnectivityServer, kw_only=True):
    security_context: dict[str, Any] | None = None


class TenantKonnectivity(Part):
    agent: Annotated[KonnectivityAgent | None, AgentDefault] = None
    server: Annotated[TenantKonnectivityServer | None, ServerDefault] = None


class Addons(Part):
    """An add-on that is present, even as {}, is installed."""

    core_dns: Annotated[CoreDNS | None, implemented("CoreDNS.")] = None
    konnectivity: Annotated[TenantKonnectivity | None, accepted("Konnectivity.", DIRECT)] = None
    kube_proxy: Annotated[KubeProxy | None, implemented("kube-proxy.")] = None


class NetworkProfile(Part):
    address: Annotated[str | None, implemented("Cloud address that is wanted; default any free one.")] = None
    advertise_address: Annotated[str | None, implemented("Address that the API server advertises; default its cloud address.")] = None
    allow_address_as_external_ip: Annotated[
        bool | None, accepted("Address as external IP of the Service.", "the address is the control plane's own in any case", when="self")
    ] = None
    cert_sans: Annotated[list[str], implemented("More names and addresses in the API server's certificate.")] = []
    cluster_domain: Annotated[str, implemented("DNS domain of the cluster.", pattern=r".*\..*")] = "cluster.local"
    dns_service_ips: Annotated[list[str], implemented("Addresses of the DNS Service; default the tenth of serviceCidr.", max_items=8)] = []
    load_balancer_class: Annotated[str | None, accepted("Class of the load balancer.", "the cloud has one", min_length=1)] = None
    load_balancer_source_ranges: Annotated[
        list[str],
        rejected(
            "Who may reach the API server.",
            "not implemented yet, and everyone could",
            "leave it out, and put a firewall before the cloud",
            max_items=16,
        ),
    ] = []
    pod_cidr: Annotated[str, implemented("Range of Pods, one IPv4 network.")] = "10.244.0.0/16"
    pod_cidrs: Annotated[
        list[str], rejected("Ranges of Pods, one for each family.", "not implemented yet", "podCidr", min_items=1, max_items=2)
    ] = []
    port: Annotated[int, implemented("Port of the API server.", minimum=1, maximum=65535)] = 6443
    service_cidr: Annotated[str, implemented("Range of Services, one IPv4 network.")] = "10.96.0.0/16"
    service_cidrs: Annotated[
        list[str], rejected("Ranges of Services, one for each family.", "not implemented yet", "serviceCidr", min_items=1, max_items=2)
    ] = []


class WritePermissions(Part):
    block_creation: bool | None = None
    block_deletion: bool | None = None
    block_update: bool | None = None


class TenantControlPlaneSpec(Part):
    control_plane: Annotated[ControlPlane, implemented("How the control plane runs and is reached.")]
    kubernetes: Annotated[Kubernetes, implemented("Version and settings.")]
    addons: Annotated[Addons | None, implemented("What is installed in the cluster.")] = None
    data_store: Annotated[
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
    network_profile: Annotated[NetworkProfile | None, implemented("Addresses, ranges and names.")] = None
    write_permissions: Annotated[
        WritePermissions | None, rejected("Blocks writes.", "not implemented yet, and writes would go through", "leave it out")
    ] = None


class TenantControlPlane(Object):
    """The API server of one cluster with its etcd, controller manager and scheduler."""

    RESOURCE: ClassVar[Resource] = Resource("kamaji.clastix.io", "v1alpha1", "tenantcontrolplanes", "TenantControlPlane")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("tcp",),
        categories=("kamaji",),
        columns=(
            Column("Version", ".spec.kubernetes.version"),
            Column("Installed Version", ".status.kubernetesResources.version.version"),
            Column("Status", ".status.kubernetesResources.version.status"),
            Column("Control-Plane endpoint", ".status.controlPlaneEndpoint"),
            Column("Kubeconfig", ".status.kubeconfig.admin.secretName"),
            Column("Datastore", ".status.storage.dataStoreName"),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        scale=Scale(
            spec=".spec.controlPlane.deployment.replicas",
            status=".status.kubernetesResources.deployment.replicas",
            selector=".status.kubernetesResources.deployment.selector",
        ),
        version_path="spec.kubernetes.version",
        variables={
            "pods": "object.?spec.?networkProfile.?podCidr.orValue('')",
            "services": "object.?spec.?networkProfile.?serviceCidr.orValue('')",
        },
        rules=(
            Rule(
                "object.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",
                "'metadata.name of a TenantControlPlane becomes the name of a Service: at most 63 characters (it has '"
                " + string(size(object.metadata.name)) + '), a letter first, no dots; choose another name'",
            ),
            Rule(
                f"[variables.pods, variables.services].all(range, range == '' || {is_network('range')})",
                "'spec.networkProfile: podCidr and serviceCidr must be IPv4 networks as 10.244.0.0/16, not ' + variables.pods + ' and '"
                " + variables.services",
            ),
            Rule(
                "!isCIDR(variables.pods) || !isCIDR(variables.services)"
                " || !(cidr(variables.pods).containsCIDR(cidr(variables.services).masked())"
                " || cidr(variables.services).containsCIDR(cidr(variables.pods).masked()))",
                "'spec.networkProfile: podCidr ' + variables.pods + ' and serviceCidr ' + variables.services + ' overlap'",
            ),
            *data_store_rules("dataStore", "dataStoreSchema", "dataStoreUsername"),
        ),
    )

    spec: TenantControlPlaneSpec | None = None
    status: TenantControlPlaneStatus | None = None
