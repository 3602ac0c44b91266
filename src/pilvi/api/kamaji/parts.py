"""What TenantControlPlane and KamajiControlPlane have in common."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, Literal

from pilvi.api.core import ResourceClaim, ResourceRequirements, Toleration
from pilvi.api.field import IntOrString, Part, Quantity, accepted, implemented, rejected, shape
from pilvi.api.object import Rule

__all__ = [
    "AdmissionController",
    "ComponentProbes",
    "CoreDNS",
    "DataStoreOverride",
    "JsonPatch",
    "Konnectivity",
    "KonnectivityAgent",
    "KubeProxy",
    "Kubelet",
    "Probe",
    "ProcessResources",
    "ServicePort",
    "Strategy",
    "VolumeMount",
    "data_store_rules",
]

NO_POD = "the control plane is not a Pod; its processes are units of the host"
NO_CONTAINERS = "the control plane is not a Pod, and what these containers do would be missing"
NO_VOLUMES = "the control plane is not a Pod, and the files would be missing"
NO_PROXY = "the cloud has no proxy in front of API servers, and nothing would answer at that name"
WITHOUT_PROXY = "serviceType LoadBalancer, the name in certSANs, and a DNS record for the address"
ONLY_NOTED = "it is noted in status and Secret only, as every control plane has an etcd of its own"
ADDRESSED = "the API server has a cloud address, as with LoadBalancer"
DIRECT = "the control plane has a leg in the cluster's network and reaches machines and pods directly"

AdmissionController = Literal[
    "AlwaysAdmit",
    "AlwaysDeny",
    "AlwaysPullImages",
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "DefaultTolerationSeconds",
    "DenyEscalatingExec",
    "DenyExecOnPrivileged",
    "DenyServiceExternalIPs",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "ImagePolicyWebhook",
    "LimitPodHardAntiAffinityTopology",
    "LimitRanger",
    "MutatingAdmissionWebhook",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "NamespaceLifecycle",
    "NodeRestriction",
    "OwnerReferencesPermissionEnforcement",
    "PersistentVolumeClaimResize",
    "PersistentVolumeLabel",
    "PodNodeSelector",
    "PodSecurity",
    "PodSecurityPolicy",
    "PodTolerationRestriction",
    "Priority",
    "ResourceQuota",
    "RuntimeClass",
    "SecurityContextDeny",
    "ServiceAccount",
    "StorageObjectInUseProtection",
    "TaintNodesByCondition",
    "ValidatingAdmissionWebhook",
]


class KubeProxy(Part):
    image_repository: Annotated[str | None, implemented("Repository of the image; default the one on the nodes.")] = None
    image_tag: Annotated[
        str | None,
        rejected(
            "Tag of the image; default the cluster's version.",
            "kubeadm takes the tag for a version",
            "a version such as v1.37.2",
            when="self != '' && !self.matches('^v[0-9]+[.][0-9]+[.][0-9]+([-.][0-9A-Za-z.-]+)?$')",
        ),
    ] = None


class CoreDNS(Part):
    image_repository: Annotated[str | None, implemented("Repository of the image; default the one on the nodes.")] = None
    image_tag: Annotated[str | None, implemented("Tag of the image; default the one on the nodes.")] = None


class ProcessResources(ResourceRequirements):
    """What one component may use."""

    claims: Annotated[list[ResourceClaim], accepted("Claims for devices.", NO_POD, list_map=["name"])] = []
    limits: Annotated[dict[str, Quantity], implemented("Most memory and cpu that the process may take.")] = {}
    requests: Annotated[dict[str, Quantity], accepted("What a scheduler reserves.", NO_POD)] = {}


class KonnectivityAgent(Part):
    extra_args: list[str] = []
    host_network: bool = False
    image: str = "registry.k8s.io/kas-network-proxy/proxy-agent"
    mode: Literal["DaemonSet", "Deployment"] = "DaemonSet"
    replicas: int | None = None
    tolerations: Annotated[list[Toleration], shape(default=[{"key": "CriticalAddonsOnly", "operator": "Exists"}])] = []
    version: str | None = None


class KonnectivityServer(Part):
    port: int
    extra_args: list[str] = []
    image: str = "registry.k8s.io/kas-network-proxy/proxy-server"
    resources: ResourceRequirements | None = None
    version: str | None = None


AgentDefault = shape(default={"image": "registry.k8s.io/kas-network-proxy/proxy-agent", "mode": "DaemonSet"})
ServerDefault = shape(default={"image": "registry.k8s.io/kas-network-proxy/proxy-server", "port": 8132})


class Konnectivity(Part):
    agent: Annotated[KonnectivityAgent | None, AgentDefault] = None
    server: Annotated[KonnectivityServer | None, ServerDefault] = None


class Probe(Part):
    failure_threshold: Annotated[int | None, shape(minimum=1)] = None
    initial_delay_seconds: Annotated[int | None, shape(minimum=0)] = None
    period_seconds: Annotated[int | None, shape(minimum=1)] = None
    success_threshold: Annotated[int | None, shape(minimum=1)] = None
    timeout_seconds: Annotated[int | None, shape(minimum=1)] = None


class ComponentProbes(Part):
    liveness: Probe | None = None
    readiness: Probe | None = None
    startup: Probe | None = None


class VolumeMount(Part):
    mount_path: str
    name: str
    mount_propagation: str | None = None
    read_only: bool | None = None
    recursive_read_only: str | None = None
    sub_path: str | None = None
    sub_path_expr: str | None = None


class DataStoreOverride(Part):
    data_store: str | None = None
    resource: str | None = None


class RollingUpdate(Part):
    max_surge: IntOrString | None = None
    max_unavailable: IntOrString | None = None


class Strategy(Part):
    rolling_update: RollingUpdate | None = None
    type: str | None = None


class JsonPatch(Part):
    op: Literal["add", "remove", "replace", "move", "copy", "test"]
    path: str
    from_: str | None = None
    value: Any = None


class Kubelet(Part):
    """Settings of the kubelets that join."""

    cgroupfs: Annotated[
        Literal["systemd", "cgroupfs"] | None,
        implemented("Cgroup driver of kubelets; pilvi's own machines use cgroupfs in any case."),
    ] = None
    configuration_json_patches: Annotated[list[JsonPatch], implemented("Changes of the kubelet's configuration.")] = []
    preferred_address_types: Annotated[
        list[Literal["Hostname", "InternalIP", "ExternalIP", "InternalDNS", "ExternalDNS"]],
        implemented(
            "Which address of a Node the API server dials, best first.",
            min_items=1,
            list_type="set",
            default=["InternalIP", "ExternalIP", "Hostname"],
        ),
    ] = []


class ServicePort(Part):
    name: str
    port: int
    target_port: IntOrString
    app_protocol: str | None = None
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"


def data_store_rules(*fields: str) -> tuple[Rule, ...]:
    """Where the data is cannot change after it was written."""
    return tuple(
        Rule(
            f"oldObject == null || oldObject.spec.?{field}.orValue('') == '' || oldObject.spec.?{field} == object.spec.?{field}",
            f"'spec.{field} cannot change: it says where the data of the cluster is;"
            f" write ' + oldObject.spec.{field} + ' or make a new cluster'",
        )
        for field in fields
    )
