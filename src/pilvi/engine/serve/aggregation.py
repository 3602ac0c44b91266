"""The engine's part of the platform's API: the subresources that providers serve, behind the platform's API server.

Only the API server gets in (a certificate of the front proxy's authority). It says who the caller is, RBAC is asked whether the caller may,
and the endpoint answers. The APIServices, by which the API server knows of all this, are there while the engine serves: they come once the
listener answers and go when the engine is told to end, so that a cloud whose engine is stopped has a discovery without holes.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import TypeAlias

import msgspec
from aiohttp import WSCloseCode, web

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import API_SERVICES
from pilvi.engine.serve import discovery
from pilvi.engine.serve.access import Access, attributes_of, read_caller
from pilvi.engine.serve.certificate import keep_certificate, server_context
from pilvi.errors import ApiError, ApiUnreachable, NotFound, PilviError, TimedOut, Transient, UserError, format_chain
from pilvi.kube import Client
from pilvi.lib.clock import format_time, utc_now
from pilvi.providers.aggregation import OPEN_STREAMS, ApiGroup, Endpoint, Handler, refusal

log = logging.getLogger(__name__)

MANAGER = "pilvi-plane"
SERVED_SINCE = "pilvi.dev/served-since"
# Bodies are options; the largest is a whole VirtualMachine.
LARGEST_BODY = 4 << 20
SHUTDOWN_TIMEOUT_S = 2.0
WITHDRAW_TIMEOUT_S = 3.0

Call: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve_aggregation(
    listener: socket.socket,
    certificate: tuple[Path, Path],
    front_proxy: Path,
    client: Client,
    groups: Iterable[ApiGroup],
    api_services: Iterable[JsonObject],
) -> None:
    """Answer the API server until cancelled.

    `certificate` are the files of certificate and key, `front_proxy` that of the authority that has signed the API server's certificate.
    `client` is of a user that may create SubjectAccessReviews and write `api_services`. Raises OSError, ApiError.
    """
    context = server_context(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(front_proxy)
    runner = web.AppRunner(make_application(client, tuple(groups)), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    announced = tuple(api_services)
    try:
        await web.SockSite(runner, listener, ssl_context=context).start()
        await _announce(client, announced)
        await keep_certificate(context, certificate)
    finally:
        # Shielded: this runs because the engine is told to end, and its client lives until all tasks are through.
        await asyncio.shield(asyncio.gather(_withdraw(client, announced), runner.cleanup()))


def make_application(client: Client, groups: tuple[ApiGroup, ...]) -> web.Application:
    """All paths with what answers them."""
    access = Access(client)
    app = web.Application(client_max_size=LARGEST_BODY, middlewares=[_as_status])
    app[OPEN_STREAMS] = set()
    app.on_shutdown.append(_say_goodbye)
    documents: dict[str, JsonObject] = {
        "/apis": discovery.group_list(groups),
        "/openapi/v2": discovery.openapi_v2(groups),
        "/openapi/v3": discovery.openapi_v3_index(groups),
    }
    for group in groups:
        documents[f"/apis/{group.name}"] = discovery.group_document(group)
        for version in group.versions:
            documents[f"/apis/{group.name}/{version}"] = discovery.version_document(group, version)
            documents[f"/openapi/v3/apis/{group.name}/{version}"] = discovery.openapi_v3(group, version)
            for endpoint in group.endpoints:
                path = f"/apis/{group.name}/{version}{endpoint.path}"
                app.router.add_route(endpoint.method, path, _guarded(access, group.name, version, endpoint))
    for path, document in documents.items():
        app.router.add_get(path, _document(document))
    app.router.add_get("/healthz", _healthz)
    return app


def _guarded(access: Access, group: str, version: str, endpoint: Endpoint) -> Call:
    async def call(request: web.Request) -> web.StreamResponse:
        caller = read_caller(request)
        if endpoint.of != "group":  # about these the API server knows all
            await access.check(caller, attributes_of(request, group, version, endpoint))
        if endpoint.method != "GET":
            log.info("%s: %s %s", caller.user, endpoint.name, "/".join(request.match_info.values()))
        return await endpoint.handle(request)

    return call


def _document(document: JsonObject) -> Call:
    body = msgspec.json.encode(document)

    async def call(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    return call


async def _healthz(_request: web.Request) -> web.StreamResponse:
    return web.Response(text="ok")


@web.middleware
async def _as_status(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as the Status that Kubernetes' clients read."""
    try:
        return await handler(request)
    except (PilviError, web.HTTPException) as e:
        status = status_of(e, request)
        return web.Response(status=status["code"], body=msgspec.json.encode(status), content_type="application/json")


def status_of(error: PilviError | web.HTTPException, request: web.Request) -> JsonObject:
    """The Status for an error of a handler. Pure."""
    if isinstance(error, web.HTTPNotFound | web.HTTPMethodNotAllowed):
        error = refusal(NotFound, f"the engine serves no {request.method} {request.path}")
    if isinstance(error, ApiError) and error.status.get("code"):
        return {"apiVersion": "v1", "kind": "Status", **error.status}
    code, reason = _code_of(error)
    message = error.text or error.reason if isinstance(error, web.HTTPException) else format_chain(error)
    return {"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": int(code)}


def _code_of(error: PilviError | web.HTTPException) -> tuple[int, str]:
    match error:
        case web.HTTPException():
            return error.status, HTTPStatus(error.status).phrase.replace(" ", "")
        case UserError():
            return HTTPStatus.CONFLICT, "Conflict"
        case TimedOut():
            return HTTPStatus.GATEWAY_TIMEOUT, "Timeout"
        case Transient():
            return HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable"
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError"


async def _announce(client: Client, api_services: tuple[JsonObject, ...]) -> None:
    """Write the APIServices. The annotation is news to the API server: it has another look at once at what it had given up on."""
    left = [*api_services]
    while left:
        metadata = {**left[0]["metadata"], "annotations": {SERVED_SINCE: format_time(utc_now())}}
        try:
            await client.apply(API_SERVICES, {**left[0], "metadata": metadata}, manager=MANAGER)
        except Transient as e:
            log.warning("%s cannot be announced now: %s", left[0]["metadata"]["name"], e)
            await asyncio.sleep(e.retry_after_s)
        else:
            left.pop(0)


async def _withdraw(client: Client, api_services: tuple[JsonObject, ...]) -> None:
    """Take the APIServices away. An API that does not answer keeps them, as when the engine is killed."""
    for obj in api_services:
        try:
            await client.ensure_absent(API_SERVICES, Key.of(obj), timeout_s=WITHDRAW_TIMEOUT_S)
        except (ApiError, ApiUnreachable) as e:
            log.warning("%s cannot be taken away: %s", obj["metadata"]["name"], e)
            return


async def _say_goodbye(app: web.Application) -> None:
    message = b"the engine ends; connect again in a moment"
    await asyncio.gather(*(stream.close(code=WSCloseCode.GOING_AWAY, message=message) for stream in [*app[OPEN_STREAMS]]))
