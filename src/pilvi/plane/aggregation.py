"""Where the API server finds the API that the engine itself serves, KubeVirt's subresources. Pure.

An aggregated API is dialled by way of a Service. Ours has no pods behind it: its one endpoint is the engine's listener on the platform's
address (addresses of the loopback may not be endpoints).

The APIServices are there only while the engine serves (`engine/serve/aggregation.py` applies and removes them). One whose server is away
makes discovery incomplete for everybody, and then no namespace of the cloud can be deleted: the controller that does it wants to see
every kind first.
"""

import base64
from collections.abc import Iterable
from ipaddress import IPv4Address

from pilvi.api import JsonObject
from pilvi.api.builtin import API_SERVICES, ENDPOINT_SLICES, SERVICES
from pilvi.api.resource import Key

__all__ = ["PORT", "SERVICE", "api_services", "server_name", "service_objects"]

SERVICE = Key("pilvi-system", "pilvi-engine")
PORT = 9446

# As KubeVirt's.
_GROUP_PRIORITY, _VERSION_PRIORITY = 1000, 15


def server_name(service: Key = SERVICE) -> str:
    """What the certificate of the listener has to be for."""
    return f"{service.name}.{service.namespace}.svc"


def service_objects(address: IPv4Address, port: int = PORT) -> list[JsonObject]:
    """The Service and its one endpoint."""
    service = SERVICES.new(SERVICE, spec={"clusterIP": "None", "ports": [{"name": "https", "port": 443, "targetPort": port}]})
    endpoint = ENDPOINT_SLICES.new(
        SERVICE,
        # The labels say whose endpoint it is, and that no controller is to look after it.
        metadata={"labels": {"kubernetes.io/service-name": SERVICE.name, "endpointslice.kubernetes.io/managed-by": "pilvi"}},
        addressType="IPv4",
        endpoints=[{"addresses": [str(address)], "conditions": {"ready": True}}],
        ports=[{"name": "https", "port": port, "protocol": "TCP"}],
    )
    return [service, endpoint]


def api_services(group: str, versions: Iterable[str], authority: bytes) -> list[JsonObject]:
    """What makes the API server pass on requests for `group`; `authority` is the certificate (PEM) that the listener's is signed by."""
    return [
        API_SERVICES.new(
            Key("", f"{version}.{group}"),
            spec={
                "group": group,
                "version": version,
                "groupPriorityMinimum": _GROUP_PRIORITY,
                "versionPriority": _VERSION_PRIORITY,
                "service": {"namespace": SERVICE.namespace, "name": SERVICE.name, "port": 443},
                "caBundle": base64.b64encode(authority).decode(),
            },
        )
        for version in versions
    ]
