"""The webhook that checks objects against others before they are stored.

The API server asks it (`plane/admission.py` says for which writes) and goes on without an answer when there is none: a dead engine
blocks nobody's writes, and the reconcilers repeat every check. So it answers from the caches alone, never asks the API, and has
nothing against anything before the caches are filled.
"""

import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
from aiohttp import web

from pilvi.api import JsonObject, Key
from pilvi.engine.serve.certificate import keep_certificate, server_context
from pilvi.plane.admission import EVICTIONS, PATH
from pilvi.providers.admission import Check
from pilvi.runtime import Informers

log = logging.getLogger(__name__)

Checks: TypeAlias = Mapping[tuple[str, str], Sequence[Check]]
"""By API group and plural."""

# Two objects of the size that etcd takes.
LARGEST_REVIEW = 4 << 20
# Who has not got the answer by then has given up.
SHUTDOWN_TIMEOUT_S = 2.0


async def serve_admission(
    listener: socket.socket,
    certificate: tuple[Path, Path],
    informers: Informers,
    checks: Iterable[Check],
    evictions: Callable[[JsonObject], Awaitable[JsonObject]],
) -> None:
    """Answer the API server until cancelled. `certificate` are the files of certificate and key, read again from time to time.

    `evictions` answers the request of a review of `pods/eviction`.
    """
    by_kind = sort_checks(checks)

    async def check(request: web.Request) -> web.Response:
        review = msgspec.json.decode(await request.read(), type=JsonObject)
        synced = all(informer.synced.is_set() for informer in informers)
        response = answer(review["request"], by_kind if synced else {})
        document = {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}
        return web.Response(body=msgspec.json.encode(document), content_type="application/json")

    async def evict(request: web.Request) -> web.Response:
        review = msgspec.json.decode(await request.read(), type=JsonObject)
        if not all(informer.synced.is_set() for informer in informers):
            return web.Response(status=503, text="the engine has just started")
        document = {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": await evictions(review["request"])}
        return web.Response(body=msgspec.json.encode(document), content_type="application/json")

    context = server_context(certificate)
    app = web.Application(client_max_size=LARGEST_REVIEW)
    app.add_routes([web.post(PATH, check), web.post(EVICTIONS, evict)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    await runner.setup()
    try:
        await web.SockSite(runner, listener, ssl_context=context).start()
        await keep_certificate(context, certificate)
    finally:
        await runner.cleanup()


def sort_checks(checks: Iterable[Check]) -> Checks:
    """The checks by what they are for."""
    found: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        found.setdefault((check.resource.group, check.resource.plural), []).append(check)
    return found


def answer(request: JsonObject, checks: Checks) -> JsonObject:
    """The `response` to the `request` of an AdmissionReview (admission.k8s.io/v1). Pure, apart from what the checks look at.

    What was wrong before the write already is no reason to refuse it: an object that a dead engine let through must stay editable.
    """
    resource = request["resource"]
    asked = checks.get((resource["group"], resource["resource"]), ())
    new, old = request["object"], request.get("oldObject")
    objections = {objection: None for check in asked for objection in check.objections(new)}  # two may say the same
    if old is not None and objections:
        known = {objection for check in asked for objection in check.objections(old)}
        objections = {objection: None for objection in objections if objection not in known}
    response: JsonObject = {"uid": request["uid"], "allowed": True}
    if warnings := [f"accepted for now: {objection.message}" for objection in objections if not objection.refuses]:
        response["warnings"] = warnings
    if refusals := [objection.message for objection in objections if objection.refuses]:
        message = "; ".join(refusals)
        response |= {"allowed": False, "status": {"message": message, "reason": "Invalid", "code": 422}}
        log.info("refused %s %s of %s: %s", new.get("kind"), Key.of(new), request["userInfo"].get("username"), message)
    return response
