"""What a TenantControlPlane reports. Names and types are Kamaji's, parts that this cloud does without (Gateway, Ingress) included."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Literal

from pilvi.api.core import Condition, LocalObjectReference
from pilvi.api.field import DateTime, Part, shape

__all__ = ["TenantControlPlaneStatus"]


class AddonStatus(Part):
    enabled: bool
    last_update: DateTime | None = None


class AgentStatus(Part):
    last_update: DateTime | None = None
    mode: str | None = None
    name: str | None = None
    namespace: str | None = None


class CertificateStatus(Part):
    checksum: str | None = None
    last_update: DateTime | None = None
    secret_name: str | None = None


class NamedStatus(Part):
    last_update: DateTime | None = None
    name: str | None = None
    namespace: str | None = None


class ConfigMapStatus(Part):
    checksum: str | None = None
    name: str | None = None


class ParentRef(Part):
    name: Annotated[str, shape(min_length=1, max_length=253)]
    group: Annotated[str, shape(max_length=253)] = "gateway.networking.k8s.io"
    kind: Annotated[str, shape(min_length=1, max_length=63)] = "Gateway"
    namespace: Annotated[str | None, shape(min_length=1, max_length=63)] = None
    port: Annotated[int | None, shape(minimum=1, maximum=65535)] = None
    section_name: Annotated[str | None, shape(min_length=1, max_length=253)] = None


class Parent(Part):
    conditions: Annotated[list[Condition], shape(min_items=1, max_items=8, list_map=["type"])]
    controller_name: Annotated[str, shape(min_length=1, max_length=253)]
    parent_ref: ParentRef


class AccessPoint(Part):
    port: int
    type: Annotated[str, shape(min_length=1, max_length=253)]
    value: str
    urls: list[str] = []


class GatewayStatus(Part):
    parents: Annotated[list[Parent], shape(max_items=32)]
    access_points: list[AccessPoint] = []
    route_ref: LocalObjectReference | None = None


class PortStatus(Part):
    error: Annotated[str, shape(max_length=316)]
    port: int
    protocol: str


class LoadBalancerIngress(Part):
    hostname: str | None = None
    ip: str | None = None
    ip_mode: str | None = None
    ports: list[PortStatus] = []


class LoadBalancer(Part):
    ingress: list[LoadBalancerIngress] = []


class ServiceStatus(Part):
    name: str
    namespace: str
    port: int
    conditions: Annotated[list[Condition], shape(list_map=["type"])] = []
    load_balancer: LoadBalancer | None = None


class KonnectivityStatus(Part):
    enabled: bool
    agent: AgentStatus | None = None
    certificate: CertificateStatus | None = None
    clusterrolebinding: NamedStatus | None = None
    config_map: ConfigMapStatus | None = None
    gateway: GatewayStatus | None = None
    kubeconfig: CertificateStatus | None = None
    sa: NamedStatus | None = None
    service: ServiceStatus | None = None


class AddonsStatus(Part):
    core_dns: AddonStatus | None = None
    konnectivity: KonnectivityStatus | None = None
    kube_proxy: AddonStatus | None = None


class EtcdCertificates(Part):
    api_server: CertificateStatus | None = None
    ca: CertificateStatus | None = None


class CertificatesStatus(Part):
    api_server: CertificateStatus | None = None
    api_server_kubelet_client: CertificateStatus | None = None
    ca: CertificateStatus | None = None
    etcd: EtcdCertificates | None = None
    front_proxy_ca: CertificateStatus | None = None
    front_proxy_client: CertificateStatus | None = None
    sa: CertificateStatus | None = None


class BootstrapToken(Part):
    checksum: str | None = None
    last_update: DateTime | None = None


class KubeadmPhase(Part):
    bootstrap_token: BootstrapToken


class KubeadmConfigStatus(Part):
    checksum: str | None = None
    configmap_name: str | None = None
    last_update: DateTime | None = None


class KubeconfigsStatus(Part):
    admin: CertificateStatus | None = None
    controller_manager: CertificateStatus | None = None
    scheduler: CertificateStatus | None = None


class DeploymentCondition(Part):
    status: str
    type: str
    last_transition_time: DateTime | None = None
    last_update_time: DateTime | None = None
    message: str | None = None
    reason: str | None = None


class DeploymentStatus(Part):
    name: str
    namespace: str
    selector: str
    available_replicas: int | None = None
    collision_count: int | None = None
    conditions: Annotated[list[DeploymentCondition], shape(list_map=["type"])] = []
    last_update: DateTime | None = None
    observed_generation: int | None = None
    ready_replicas: int | None = None
    replicas: int | None = None
    terminating_replicas: int | None = None
    unavailable_replicas: int | None = None
    updated_replicas: int | None = None


class OldLoadBalancerIngress(Part):
    hostname: str | None = None
    ip: str | None = None
    ports: list[PortStatus] = []


class OldLoadBalancer(Part):
    ingress: list[OldLoadBalancerIngress] = []


class IngressStatus(Part):
    name: str
    namespace: str
    load_balancer: OldLoadBalancer | None = None


class VersionStatus(Part):
    status: Literal[
        "Unknown", "Provisioning", "CertificateAuthorityRotating", "Upgrading", "Migrating", "Ready", "NotReady", "Sleeping", "WriteLimited"
    ] = "Provisioning"
    version: str | None = None


class KubernetesResources(Part):
    deployment: DeploymentStatus | None = None
    gateway: GatewayStatus | None = None
    ingress: IngressStatus | None = None
    service: ServiceStatus | None = None
    version: VersionStatus | None = None


class StorageConfig(Part):
    checksum: str | None = None
    secret_name: str | None = None


class StorageSetup(Part):
    checksum: str | None = None
    last_update: DateTime | None = None
    schema: str | None = None
    user: str | None = None


class StorageStatus(Part):
    certificate: CertificateStatus | None = None
    config: StorageConfig | None = None
    data_store_name: str | None = None
    driver: str | None = None
    setup: StorageSetup | None = None


class TenantControlPlaneStatus(Part):
    addons: AddonsStatus | None = None
    certificates: CertificatesStatus | None = None
    control_plane_endpoint: str | None = None
    kubeadm_phase: KubeadmPhase | None = None
    kubeadmconfig: KubeadmConfigStatus | None = None
    kubeconfig: KubeconfigsStatus | None = None
    kubernetes_resources: KubernetesResources | None = None
    observed_generation: int | None = None
    storage: StorageStatus | None = None
