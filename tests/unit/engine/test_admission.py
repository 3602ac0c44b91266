"""From a review to its answer, and which writes are reviewed at all."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from pilvi.api import JsonObject
from pilvi.api.builtin import SERVICES
from pilvi.api.kubeovn import Subnet
from pilvi.engine.main import PROVIDERS
from pilvi.engine.serve import certificate
from pilvi.engine.serve.admission import answer, serve_admission, sort_checks
from pilvi.errors import UserError
from pilvi.lib.deadline import wait_for
from pilvi.pki import Usage, create_ca, issue
from pilvi.plane.admission import KINDS, PATH, webhooks
from pilvi.providers.admission import Check, Objection
from pilvi.runtime import Informers
from tests.unit.providers.kubeovn.objects import CLOUD, make_subnet


def find_small(subnet: JsonObject) -> Iterable[Objection]:
    cidr = subnet["spec"]["cidrBlock"]
    if cidr.endswith("/30"):
        yield Objection(f"{cidr} is small; take more")
    if cidr.endswith("/8"):
        raise UserError(f"{cidr} is large", hint="take less")


def find_far(subnet: JsonObject) -> Iterable[Objection]:
    if subnet["spec"]["vpc"] != "one":
        yield Objection("it is far away", refuses=False)


CHECKS = sort_checks(
    [Check(Subnet.RESOURCE, find_small), Check(Subnet.RESOURCE, find_far), Check(SERVICES, lambda _: [Objection("never")])]
)


def request_for(new: JsonObject, old: JsonObject | None = None) -> JsonObject:
    resource = {"group": "kubeovn.io", "version": "v1", "resource": "subnets"}
    return {"uid": "review", "resource": resource, "object": new, "oldObject": old, "userInfo": {"username": "somebody"}}


def test_nothing_against_it() -> None:
    assert answer(request_for(make_subnet()), CHECKS) == {"uid": "review", "allowed": True}


def test_a_kind_that_nobody_checks() -> None:
    assert answer(request_for(make_subnet("a", "10.0.0.0/30")), {})["allowed"]


def test_a_refusal_says_why_and_what_to_do() -> None:
    found = answer(request_for(make_subnet("a", "10.0.0.0/30")), CHECKS)
    assert found == {
        "uid": "review",
        "allowed": False,
        "status": {"message": "10.0.0.0/30 is small; take more", "reason": "Invalid", "code": 422},
    }


def test_what_a_check_raises_for_a_person_refuses() -> None:
    found = answer(request_for(make_subnet("a", "10.0.0.0/8", vpc="two")), CHECKS)
    assert found["status"]["message"] == "10.0.0.0/8 is large; take less"
    assert found["warnings"] == ["accepted for now: it is far away"], "the other checks are asked all the same"


def test_a_warning_refuses_nothing() -> None:
    found = answer(request_for(make_subnet(vpc="two")), CHECKS)
    assert found == {"uid": "review", "allowed": True, "warnings": ["accepted for now: it is far away"]}


def test_what_was_wrong_before_may_be_edited() -> None:
    """Or an object that a dead engine let through could not even be labelled."""
    before, after = make_subnet("a", "10.0.0.0/30", vpc="two"), make_subnet("a", "10.0.0.0/30", vpc="two", gateway="10.0.0.2")
    assert answer(request_for(after, before), CHECKS) == {"uid": "review", "allowed": True}
    assert not answer(request_for(make_subnet("a", "10.0.4.0/30"), before), CHECKS)["allowed"], "but not made wrong in another way"


def test_what_is_asked_for_is_what_is_checked() -> None:
    """A kind without a check would be asked about for nothing, and a check without its kind would never run."""
    client: Any = SimpleNamespace(on_write=None)
    platform: Any = SimpleNamespace(cloud=CLOUD, informers=Informers(client), kit=None)
    assert {check.resource for provider in PROVIDERS for check in provider.checks(platform)} == set(KINDS)


def test_nobody_waits_for_the_webhook() -> None:
    *across, evictions = webhooks(b"authority")["webhooks"]
    for webhook in across:
        assert (webhook["failurePolicy"], webhook["timeoutSeconds"], webhook["sideEffects"]) == ("Ignore", 2, "None")
        assert [rule["operations"] for rule in webhook["rules"]] == [["CREATE", "UPDATE"]], "a deletion is never refused"
        assert all("/" not in resource for rule in webhook["rules"] for resource in rule["resources"]), "nor is a status"
    assert (evictions["failurePolicy"], evictions["sideEffects"]) == ("Fail", "NoneOnDryRun"), "nobody else would end the machine"
    assert [rule["resources"] for rule in evictions["rules"]] == [["pods/eviction"]]


class Served:
    """The listener on a port of the loopback, with a certificate that lives in files."""

    def __init__(self, folder: Path) -> None:
        self.files = (folder / "tls.crt", folder / "tls.key")
        self.authority = create_ca("webhooks")
        self.renew()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.address: tuple[str, int] = self.listener.getsockname()
        client: Any = SimpleNamespace(on_write=None)
        self.informers = Informers(client)
        self.informer = self.informers.get(Subnet.RESOURCE)

    def renew(self) -> None:
        pair = issue(self.authority, "webhook", Usage.SERVER, addresses=(IPv4Address("127.0.0.1"),))
        for path, content in zip(self.files, (pair.certificate, pair.key), strict=True):
            path.write_bytes(content)

    async def ask(self, subnet: JsonObject) -> JsonObject:
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request_for(subnet)}
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.post(f"https://127.0.0.1:{self.address[1]}{PATH}", json=review) as response,
        ):
            review: JsonObject = await response.json()
            return review

    async def shown_certificate(self) -> str:
        return await asyncio.to_thread(ssl.get_server_certificate, self.address)


async def never_asked(_request: JsonObject) -> JsonObject:
    raise AssertionError("nobody evicts anything here")


async def test_the_listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(certificate, "RELOAD_S", 0.05)
    served = Served(tmp_path)
    checks = [Check(Subnet.RESOURCE, find_small)]
    task = asyncio.create_task(serve_admission(served.listener, served.files, served.informers, checks, never_asked))
    try:
        small = make_subnet("a", "10.0.0.0/30")
        assert (await served.ask(small))["response"]["allowed"], "the caches are empty still, so nothing is known"
        served.informer.synced.set()
        review = await served.ask(small)
        assert (review["kind"], review["apiVersion"]) == ("AdmissionReview", "admission.k8s.io/v1")
        assert not review["response"]["allowed"]
        shown = await served.shown_certificate()
        old_key = served.files[1].read_bytes()
        served.renew()
        served.files[1].write_bytes(old_key)
        await wait_for(lambda: "cannot be read now" in caplog.text, 30, "the half written pair to be met", interval_s=0.01)
        assert not (await served.ask(small))["response"]["allowed"], "the old pair is still in use"
        served.renew()
        deadline = asyncio.get_running_loop().time() + 5
        while await served.shown_certificate() == shown:
            assert asyncio.get_running_loop().time() < deadline, "the renewed certificate was never shown"
            await asyncio.sleep(0.02)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
