"""What the API server and its clients read to learn which paths the engine serves. Pure.

Answered in full also where nobody needs it (OpenAPI): the API server asks again and again, and logs each time, for what is not there.
"""

from collections.abc import Callable, Iterable

from pilvi.api import JsonObject
from pilvi.providers.aggregation import ApiGroup, Endpoint

__all__ = ["group_document", "group_list", "openapi_v2", "openapi_v3", "openapi_v3_index", "version_document"]

_TITLE = "pilvi"


def group_list(groups: Iterable[ApiGroup]) -> JsonObject:
    """What /apis answers."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(group) for group in groups]}


def group_document(group: ApiGroup) -> JsonObject:
    """What /apis/GROUP answers."""
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group)}


def version_document(group: ApiGroup, version: str) -> JsonObject:
    """What /apis/GROUP/VERSION answers: an APIResourceList.

    As with KubeVirt subresources have no kind and no verbs: with a kind of another group that would take its place in kubectl's tables, and
    with verbs the garbage collector and quotas would try to list them. What can be created has both, so that `kubectl create` finds it.
    """
    kinds: dict[str, str] = {}
    for endpoint in group.endpoints:
        if endpoint.of != "group":
            kinds[endpoint.name] = endpoint.kind or kinds.get(endpoint.name, "")
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group.name}/{version}",
        "resources": [
            {"name": name, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": ["create"] if kind else []}
            for name, kind in kinds.items()
        ],
    }


def openapi_v2(groups: Iterable[ApiGroup]) -> JsonObject:
    """What /openapi/v2 answers."""
    paths: JsonObject = {}
    for group in groups:
        for version in group.versions:
            paths |= _paths(group, version, _parameter_v2)
    return {"swagger": "2.0", "info": {"title": _TITLE, "version": "v1"}, "paths": paths}


def openapi_v3_index(groups: Iterable[ApiGroup]) -> JsonObject:
    """What /openapi/v3 answers."""
    names = [f"apis/{group.name}/{version}" for group in groups for version in group.versions]
    return {"paths": {name: {"serverRelativeURL": f"/openapi/v3/{name}"} for name in names}}


def openapi_v3(group: ApiGroup, version: str) -> JsonObject:
    """What /openapi/v3/apis/GROUP/VERSION answers."""
    return {"openapi": "3.0.0", "info": {"title": _TITLE, "version": "v1"}, "paths": _paths(group, version, _parameter_v3)}


def _group(group: ApiGroup) -> JsonObject:
    versions = [{"groupVersion": f"{group.name}/{version}", "version": version} for version in group.versions]
    return {"name": group.name, "versions": versions, "preferredVersion": versions[0]}


def _paths(group: ApiGroup, version: str, parameter: Callable[[str], JsonObject]) -> JsonObject:
    paths: JsonObject = {}
    for endpoint in group.endpoints:
        item = paths.setdefault(
            f"/apis/{group.name}/{version}{endpoint.path}", {"parameters": [parameter(name) for name in _names(endpoint)]}
        )
        item[endpoint.method.lower()] = {"description": endpoint.name, "responses": {"200": {"description": "OK"}}}
    return paths


def _names(endpoint: Endpoint) -> list[str]:
    return [part[1:-1] for part in endpoint.path.split("/") if part.startswith("{")]


def _parameter_v2(name: str) -> JsonObject:
    return {"name": name, "in": "path", "required": True, "type": "string"}


def _parameter_v3(name: str) -> JsonObject:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
