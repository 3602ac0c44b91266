"""Who calls the engine's aggregated API, and whether they may: the API server says the one, the platform's RBAC the other.

The API server has asked RBAC already, but it knows less of our paths: `vnc/screenshot` is `vnc` to it. So every path is asked about again
under its full name, as KubeVirt does. Nothing is allowed that the API did not allow within the last seconds.
"""

import time
from dataclasses import dataclass
from urllib.parse import unquote

import msgspec
from aiohttp import web
from multidict import CIMultiDictProxy

from pilvi.api import JsonObject
from pilvi.errors import Forbidden
from pilvi.kube import Client
from pilvi.providers.aggregation import Endpoint, refusal

REMEMBER_S = 3.0
# Who watches a screen asks for the same thing all the time; a cache beyond that is not needed.
REMEMBERED = 512

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
PROXY_NAME = "front-proxy-client"
_VERBS = {"GET": "get", "PUT": "update", "POST": "create"}


@dataclass(frozen=True)
class Caller:
    """A user as the API server has authenticated it. `extra` is what its authenticators know besides."""

    user: str
    uid: str
    groups: tuple[str, ...]
    extra: tuple[tuple[str, tuple[str, ...]], ...]


def read_caller(request: web.Request) -> Caller:
    """The user on whose behalf the API server calls. Raises HTTPUnauthorized when it is not the API server that does.

    The listener takes only certificates of the front proxy's own authority; the name is looked at here.
    """
    certificate: JsonObject = request.get_extra_info("peercert") or {}
    names = {value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"}
    headers = request.headers
    user = headers.get("X-Remote-User", "")
    if PROXY_NAME not in names or not user:
        raise web.HTTPUnauthorized(text="only the platform's API server may call this, on behalf of a user")
    return Caller(user, headers.get("X-Remote-Uid", ""), tuple(headers.getall("X-Remote-Group", ())), _extra(headers))


class Access:
    """Asks the platform's API what callers may do."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._allowed: dict[tuple[Caller, str], float] = {}

    async def check(self, caller: Caller, attributes: JsonObject) -> None:
        """Return when the caller may do that; `attributes` are a SubjectAccessReview's. Raises Forbidden, and what a request may raise."""
        key = (caller, msgspec.json.encode(attributes, order="sorted").decode())
        now = time.monotonic()
        if self._allowed.get(key, 0.0) > now:
            return
        spec = {"user": caller.user, "uid": caller.uid, "groups": list(caller.groups), "extra": dict(caller.extra)}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {**spec, "resourceAttributes": attributes},
        }
        status = msgspec.json.decode(await self._client.raw("POST", REVIEWS, body=review, what="ask who may do it")).get("status") or {}
        if status.get("allowed") is not True or status.get("denied") is True:
            raise refusal(Forbidden, _explain(caller, attributes, status), resource=attributes["resource"], name=attributes.get("name", ""))
        if len(self._allowed) >= REMEMBERED:
            self._allowed.clear()
        self._allowed[key] = now + REMEMBER_S


def attributes_of(request: web.Request, group: str, version: str, endpoint: Endpoint) -> JsonObject:
    """What a request asks for, as a SubjectAccessReview says it."""
    found = {
        "group": group,
        "version": version,
        "resource": endpoint.resource,
        "subresource": endpoint.subresource,
        "verb": _VERBS[endpoint.method],
        "namespace": request.match_info.get("namespace", ""),
        "name": request.match_info.get("name", ""),
    }
    return {name: value for name, value in found.items() if value}


def _explain(caller: Caller, attributes: JsonObject, status: JsonObject) -> str:
    what = "/".join(attributes[part] for part in ("resource", "subresource") if part in attributes)
    named = f'"{attributes["name"]}" ' if "name" in attributes else ""
    reason = f": {status['reason']}" if status.get("reason") else ""
    return (
        f'{attributes["resource"]}.{attributes["group"]} {named}is forbidden: User "{caller.user}" cannot {attributes["verb"]} resource '
        f'"{what}" in API group "{attributes["group"]}" in the namespace "{attributes["namespace"]}"{reason}'
    )


def _extra(headers: CIMultiDictProxy[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    prefix = "x-remote-extra-"
    names = sorted({name.lower() for name in headers if name.lower().startswith(prefix)})
    return tuple((unquote(name.removeprefix(prefix)), tuple(headers.getall(name))) for name in names)
