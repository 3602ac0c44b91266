"""Cluster API's kinds and admission webhooks, taken from its own kustomizations when the kit is built.

Upstream runs its managers as Deployments behind Services with certificates from cert-manager. Here they are processes with an address,
so each webhook gets a URL and our certificate authority. The artefact keeps the server's name in place of the address.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import yaml

from pilvi.api import JsonObject
from pilvi.errors import Bug

__all__ = ["FILE", "address_manifests", "parse_documents", "select_manifests"]

FILE = "cluster-api.json"

_SCHEME = "pilvi-server://"
_WEBHOOKS = {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}
_INJECTED_BY = "cert-manager.io/inject-ca-from"


def parse_documents(text: str) -> list[JsonObject]:
    """The objects of a YAML stream, empty documents left out."""
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def select_manifests(server: str, objects: Iterable[JsonObject]) -> list[JsonObject]:
    """Custom resource definitions and webhook configurations among the rendered objects of one manager.

    Their webhooks point to `server` (`core` or `bootstrap`), a name that `address_manifests` turns into an address. Raises Bug for a
    webhook without a Service, since nobody would know what answers it.
    """
    selected = []
    for obj in objects:
        if obj["kind"] != "CustomResourceDefinition" and obj["kind"] not in _WEBHOOKS:
            continue
        for config in _client_configs(obj):
            service = config.pop("service", None)
            if service is None:
                raise Bug(f"{obj['kind']} {obj['metadata']['name']}: a webhook names no service")
            config.pop("caBundle", None)
            config["url"] = f"{_SCHEME}{server}{service.get('path', '/')}"
        annotations = obj["metadata"].get("annotations") or {}
        annotations.pop(_INJECTED_BY, None)
        selected.append(obj)
    return selected


def address_manifests(path: Path, servers: dict[str, str], ca_bundle: bytes) -> list[JsonObject]:
    """The stored objects with addresses: `servers` maps each server name to the base URL of its webhooks, `ca_bundle` is PEM."""
    objects: list[JsonObject] = msgspec.json.decode(path.read_bytes())
    encoded = base64.b64encode(ca_bundle).decode()
    for obj in objects:
        for config in _client_configs(obj):
            server, _, rest = config["url"].removeprefix(_SCHEME).partition("/")
            config["url"] = f"{servers[server].rstrip('/')}/{rest}"
            config["caBundle"] = encoded
    return objects


def _client_configs(obj: JsonObject) -> Iterator[JsonObject]:
    if obj["kind"] in _WEBHOOKS:
        for webhook in obj.get("webhooks") or []:
            yield webhook["clientConfig"]
        return
    conversion = obj["spec"].get("conversion") or {}
    if conversion.get("strategy") == "Webhook":
        yield conversion["webhook"]["clientConfig"]
