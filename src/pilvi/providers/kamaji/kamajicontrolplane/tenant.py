"""From a KamajiControlPlane and its Cluster to the TenantControlPlane that runs it. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from pilvi.api import JsonObject, Key
from pilvi.api.controlplane import ControlPlaneComponent, ControlPlaneNetwork, KamajiControlPlane, KamajiControlPlaneSpec
from pilvi.api.kamaji import CoreDNS, Kubelet, ProcessResources, TenantControlPlane
from pilvi.errors import UserError
from pilvi.lib.versions import normalize
from pilvi.providers.kamaji.names import CLUSTER_NAME_LABEL, DEFAULT_DATASTORE
from pilvi.runtime import is_controlled_by, owner_reference
from pilvi.tenant import VPC_ANNOTATION

__all__ = ["find_tenant_taken", "spec_of", "tenant_control_plane"]

DEFAULT_PORT = 6443
ADDRESS_TYPES = ["InternalIP", "ExternalIP", "Hostname"]


def spec_of(typed: KamajiControlPlane) -> KamajiControlPlaneSpec:
    """The spec. Raises UserError when the object has none, which only a CRD that was tampered with lets through."""
    if typed.spec is None:
        raise UserError(f"KamajiControlPlane {typed.metadata.namespace}/{typed.metadata.name} has no spec", hint="write one")
    return typed.spec


def find_tenant_taken(tenant: JsonObject | None, control_plane: JsonObject) -> str | None:
    """Why a KamajiControlPlane cannot have its TenantControlPlane, given the one of that name (None: there is none); None when it can."""
    if tenant is None or is_controlled_by(tenant, control_plane):
        return None
    return f"TenantControlPlane {Key.of(tenant)} exists and belongs to somebody else; delete it, or choose another name"


def tenant_control_plane(
    owner: JsonObject, typed: KamajiControlPlane, cluster: JsonObject, infrastructure: JsonObject | None
) -> JsonObject:
    """The fields that a KamajiControlPlane decides of its TenantControlPlane, for server-side apply.

    Networks, port and domain are the Cluster's; the VPC is taken from the infrastructure cluster's annotation once that is there.
    """
    spec = spec_of(typed)
    name, namespace = typed.metadata.name, typed.metadata.namespace
    network = spec.network or ControlPlaneNetwork()
    annotations = ((infrastructure or {}).get("metadata") or {}).get("annotations") or {}
    metadata: JsonObject = {
        "name": name,
        "namespace": namespace,
        "labels": {CLUSTER_NAME_LABEL: cluster["metadata"]["name"]},
        "ownerReferences": [owner_reference(owner)],
    }
    vpc = annotations.get(VPC_ANNOTATION) or typed.metadata.annotations.get(VPC_ANNOTATION)
    if vpc:
        metadata["annotations"] = {VPC_ANNOTATION: vpc}
    return {
        "apiVersion": TenantControlPlane.RESOURCE.api_version,
        "kind": TenantControlPlane.RESOURCE.kind,
        "metadata": metadata,
        "spec": {
            "kubernetes": _kubernetes(spec),
            "networkProfile": _network_profile(spec, network, cluster),
            "controlPlane": {
                "deployment": {
                    "replicas": spec.replicas,
                    **_filled("extraArgs", _extra_args(spec)),
                    **_filled("resources", _resources(spec)),
                },
                "service": {"serviceType": network.service_type, **_filled("additionalMetadata", _service_metadata(network))},
            },
            **_filled("addons", _addons(spec)),
            "dataStore": spec.data_store_name or DEFAULT_DATASTORE,
            # Always written: a TenantControlPlane that is made anew elsewhere (clusterctl move) must find the same data again.
            "dataStoreSchema": spec.data_store_schema or f"{namespace}_{name}",
            "dataStoreUsername": spec.data_store_username or f"{namespace}_{name}",
        },
    }


def _kubernetes(spec: KamajiControlPlaneSpec) -> JsonObject:
    kubelet = spec.kubelet or Kubelet()
    result: JsonObject = {
        "version": normalize(spec.version),
        "kubelet": {"preferredAddressTypes": kubelet.preferred_address_types or ADDRESS_TYPES},
    }
    if kubelet.cgroupfs:
        result["kubelet"]["cgroupfs"] = kubelet.cgroupfs
    if kubelet.configuration_json_patches:
        result["kubelet"]["configurationJSONPatches"] = msgspec.to_builtins(kubelet.configuration_json_patches)
    if spec.admission_controllers:
        result["admissionControllers"] = spec.admission_controllers
    return result


def _network_profile(spec: KamajiControlPlaneSpec, network: ControlPlaneNetwork, cluster: JsonObject) -> JsonObject:
    wanted: JsonObject = cluster["spec"].get("clusterNetwork") or {}
    dns = spec.addons.core_dns if spec.addons else None
    profile: dict[str, Any] = {
        "port": wanted.get("apiServerPort") or DEFAULT_PORT,
        "podCidr": _only(wanted, "pods"),
        "serviceCidr": _only(wanted, "services"),
        "clusterDomain": wanted.get("serviceDomain"),
        "address": network.service_address,
        "advertiseAddress": network.advertise_address,
        "certSANs": network.cert_sans,
        "dnsServiceIPs": network.dns_service_ips or (dns.dns_service_ips if dns else []),
    }
    return {name: value for name, value in profile.items() if value}


def _only(network: JsonObject, family: str) -> str | None:
    """The one network of Pods or Services that the Cluster names; None leaves the TenantControlPlane's default."""
    blocks = (network.get(family) or {}).get("cidrBlocks") or []
    if len(blocks) > 1:
        raise UserError(f"the Cluster's spec.clusterNetwork.{family}.cidrBlocks has {len(blocks)} networks", hint="give one IPv4 network")
    return blocks[0] if blocks else None


def _components(spec: KamajiControlPlaneSpec) -> dict[str, ControlPlaneComponent]:
    found = {"apiServer": spec.api_server, "controllerManager": spec.controller_manager, "scheduler": spec.scheduler}
    return {name: component for name, component in found.items() if component}


def _extra_args(spec: KamajiControlPlaneSpec) -> JsonObject:
    return {name: component.extra_args for name, component in _components(spec).items() if component.extra_args}


def _resources(spec: KamajiControlPlaneSpec) -> JsonObject:
    return {
        name: msgspec.to_builtins(component.resources)
        for name, component in _components(spec).items()
        if component.resources is not None and component.resources != ProcessResources()
    }


def _service_metadata(network: ControlPlaneNetwork) -> JsonObject:
    return {**_filled("labels", network.service_labels), **_filled("annotations", network.service_annotations)}


def _filled(name: str, value: JsonObject) -> JsonObject:
    """The field, or nothing when it is empty: server-side apply turns a map that it empties into null, which the schema refuses."""
    return {name: value} if value else {}


def _addons(spec: KamajiControlPlaneSpec) -> JsonObject:
    addons: JsonObject = {}
    if spec.addons and (dns := spec.addons.core_dns) is not None:
        addons["coreDNS"] = msgspec.to_builtins(CoreDNS(dns.image_repository, dns.image_tag))
    if spec.addons and spec.addons.kube_proxy is not None:
        addons["kubeProxy"] = msgspec.to_builtins(spec.addons.kube_proxy)
    return addons
