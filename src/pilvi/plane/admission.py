"""For which writes the API server asks the engine's webhook, and where it finds it. Pure.

Unlike the admission policies, which look at one object and fail closed, this one looks across objects and fails open: its answer is
a courtesy, given two seconds at most. Not asked: for status, for objects that are being deleted, for Cluster API's topology dry runs,
for changes that no check looks at, and by the controllers of the platform, whose writes repeat what a user's object said already.
"""

import base64
from ipaddress import IPv4Address

from pilvi.api import JsonObject, Resource
from pilvi.api.builtin import CLUSTERS, SERVICES
from pilvi.api.capk import KubevirtCluster
from pilvi.api.cni import NetworkAttachmentDefinition
from pilvi.api.controlplane import KamajiControlPlane
from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.kubeovn import Subnet, Vpc
from pilvi.api.kubevirt import VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceMigration
from pilvi.api.policies import NO_TOPOLOGY_DRY_RUN, NOT_DELETED, NOT_OURSELVES

__all__ = ["ADDRESS", "EVICTIONS", "KINDS", "PATH", "PORT", "webhooks"]

# The engine listens where nobody but the platform's own processes gets to.
ADDRESS = IPv4Address("127.0.0.1")
PORT = 9445
PATH, EVICTIONS = "/check", "/evict"

NAME = "pilvi-across-objects"
TIMEOUT_S = 2

KINDS: tuple[Resource, ...] = (
    CLUSTERS,
    KamajiControlPlane.RESOURCE,
    TenantControlPlane.RESOURCE,
    KubevirtCluster.RESOURCE,
    VirtualMachine.RESOURCE,
    VirtualMachineInstance.RESOURCE,
    VirtualMachineInstanceMigration.RESOURCE,
    Vpc.RESOURCE,
    Subnet.RESOURCE,
    NetworkAttachmentDefinition.RESOURCE,
    SERVICES,
)

# Addresses, Subnets and Vpcs are asked for in annotations.
_CHANGES = {
    "name": "spec-or-annotations-change",
    "expression": "oldObject == null || object.?spec.orValue({}) != oldObject.?spec.orValue({})"
    " || object.metadata.?annotations.orValue({}) != oldObject.metadata.?annotations.orValue({})",
}
_ONLY = {SERVICES: {"name": "load-balancer", "expression": "object.spec.?type.orValue('') == 'LoadBalancer'"}}


def webhooks(authority: bytes, port: int = PORT) -> JsonObject:
    """The ValidatingWebhookConfiguration; `authority` is the certificate (PEM) that the webhook's own is signed by."""
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": NAME},
        "webhooks": [
            {
                "name": f"{resource.plural}.across-objects.pilvi.dev",
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"url": f"https://{ADDRESS}:{port}{PATH}", "caBundle": base64.b64encode(authority).decode()},
                "rules": [
                    {
                        "apiGroups": [resource.group],
                        "apiVersions": [resource.version],
                        "resources": [resource.plural],
                        "operations": ["CREATE", "UPDATE"],
                    }
                ],
                "matchPolicy": "Equivalent",  # other versions are converted to the one that the checks read
                "matchConditions": [
                    NOT_OURSELVES,
                    NOT_DELETED,
                    NO_TOPOLOGY_DRY_RUN,
                    _CHANGES,
                    *([_ONLY[resource]] if resource in _ONLY else []),
                ],
                "failurePolicy": "Ignore",
                "sideEffects": "None",
                "timeoutSeconds": TIMEOUT_S,
            }
            for resource in KINDS
        ]
        + [_evictions(authority, port)],
    }


def _evictions(authority: bytes, port: int) -> JsonObject:
    """Evictions of machines. Without an engine nobody could end one, so these are refused then, unlike all other writes."""
    return {
        "name": "evictions.machines.pilvi.dev",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": f"https://{ADDRESS}:{port}{EVICTIONS}", "caBundle": base64.b64encode(authority).decode()},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/eviction"], "operations": ["CREATE"]}],
        "matchConditions": [{"name": "of-a-machine", "expression": "request.name.startsWith('virt-launcher-')"}],
        "failurePolicy": "Fail",
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": TIMEOUT_S,
    }
