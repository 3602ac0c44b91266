from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from pilvi import errors
from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import CONFIG_MAPS, CRDS, NAMESPACES, NODES
from pilvi.kube import Client, Discovery, Kubeconfig, apply_all, flatten
from pilvi.kube.transport import CONNECTIONS
from pilvi.pki.certificates import Usage, create_ca, issue
from tests.fake_api import FakeApi, status_response

THINGS = Resource("t.dev", "v1", "things", "Thing")
A = Key("default", "a")


@pytest_asyncio.fixture
async def client(fake_api: FakeApi) -> AsyncIterator[Client]:
    async with Client.open(fake_api.kubeconfig) as opened:
        yield opened


async def test_create_get_list_delete(client: Client) -> None:
    made = await client.create(THINGS, THINGS.new(A, spec={"n": 1}))
    assert made["kind"] == "Thing"
    assert (await client.get(THINGS, A))["spec"] == {"n": 1}
    assert [Key.of(obj) for obj in await client.list(THINGS, namespace="default")] == [A]
    assert await client.list(THINGS, namespace="other") == []
    await client.delete(THINGS, A)
    assert await client.find(THINGS, A) is None
    assert not await client.ensure_absent(THINGS, A)
    with pytest.raises(errors.NotFound, match=r"get things\.t\.dev default/a"):
        await client.get(THINGS, A)


async def test_cluster_scoped_and_generate_name(client: Client, fake_api: FakeApi) -> None:
    await client.create(NODES, {"metadata": {"name": "n1"}})
    assert "/api/v1/nodes/n1" in fake_api.objects
    made = await client.create(THINGS, {"metadata": {"generateName": "x-", "namespace": "default"}})
    assert made["metadata"]["name"].startswith("x-")


async def test_list_items_have_kind_and_pages_are_joined(client: Client, fake_api: FakeApi) -> None:
    for number in range(7):
        fake_api.put(f"/api/v1/namespaces/default/configmaps/c{number}", {"metadata": {"name": f"c{number}", "namespace": "default"}})
    fake_api.page_size = 3
    found = await client.list_with_version(CONFIG_MAPS)
    assert len(found.items) == 7
    assert {(obj["apiVersion"], obj["kind"]) for obj in found.items} == {("v1", "ConfigMap")}
    assert found.resource_version == "107"
    assert sum("continue=" in path for _, path in fake_api.requests) == 2


async def test_an_expired_continue_token_starts_the_list_again(client: Client, fake_api: FakeApi) -> None:
    for number in range(4):
        fake_api.put(f"/apis/t.dev/v1/namespaces/default/things/{number}", THINGS.new(Key("default", str(number))))
    fake_api.page_size = 2
    failed = False

    def fault(request):  # type: ignore[no-untyped-def]
        nonlocal failed
        if "continue" in request.query and not failed:
            failed = True
            return status_response(410, "Expired")
        return None

    fake_api.faults.append(fault)
    assert len(await client.list(THINGS)) == 4


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", errors.BadRequest),
        (403, "Forbidden", errors.Forbidden),
        (404, "", errors.NotFound),
        (405, "MethodNotAllowed", errors.MethodNotAllowed),
        (409, "AlreadyExists", errors.AlreadyExists),
        (409, "Conflict", errors.Conflict),
        (410, "Expired", errors.Expired),
        (410, "Gone", errors.Expired),
        (413, "", errors.RequestEntityTooLarge),
        (422, "Invalid", errors.Invalid),
        (500, "InternalError", errors.ServerError),
        (500, "ServerTimeout", errors.ServerBusy),
        (502, "", errors.ServerError),
        (503, "ServiceUnavailable", errors.ServerBusy),
        (418, "", errors.ApiError),
    ],
)
async def test_errors_by_reason(client: Client, fake_api: FakeApi, code: int, reason: str, kind: type[errors.ApiError]) -> None:
    fake_api.fail(code, reason, causes=[{"field": "spec.n"}])
    with pytest.raises(errors.ApiError) as caught:
        await client.get(THINGS, A)
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.causes) == (code, [{"field": "spec.n"}])


async def test_an_error_without_a_status_body(client: Client, fake_api: FakeApi) -> None:
    from aiohttp import web

    fake_api.faults.append(lambda request: web.Response(status=500, text="etcd failed"))
    with pytest.raises(errors.ServerError, match="GET /readyz: etcd failed"):
        await client.raw("GET", "/readyz")


async def test_a_short_429_is_repeated(client: Client, fake_api: FakeApi) -> None:
    fake_api.put("/apis/t.dev/v1/namespaces/default/things/a", THINGS.new(A))
    fake_api.fail(429, "TooManyRequests", retry_after=0, times=2)
    assert await client.get(THINGS, A)
    assert len(fake_api.requests) == 3


async def test_a_long_or_endless_429_is_raised(client: Client, fake_api: FakeApi) -> None:
    fake_api.fail(429, "TooManyRequests", retry_after=30)
    with pytest.raises(errors.TooManyRequests) as caught:
        await client.get(THINGS, A)
    assert caught.value.retry_after_s == 30
    fake_api.fail(429, "TooManyRequests", retry_after=0, times=100)
    with pytest.raises(errors.TooManyRequests):
        await client.get(THINGS, A)
    assert len(fake_api.requests) == 4


async def test_retry_seconds_of_the_body_count_too(client: Client, fake_api: FakeApi) -> None:
    fake_api.fail(429, "TooManyRequests", retryAfterSeconds=12)
    with pytest.raises(errors.TooManyRequests) as caught:
        await client.get(THINGS, A)
    assert caught.value.retry_after_s == 12


async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with Client.open(Kubeconfig(server=f"http://127.0.0.1:{port}")) as client:
        with pytest.raises(errors.ApiUnreachable, match="no connection to http://127") as caught:
            await client.get(THINGS, A)
        assert "ssl:" not in errors.format_chain(caught.value)
        with pytest.raises(errors.ApiUnreachable):
            async with client.watch(THINGS, resource_version="1"):
                pass


async def test_a_server_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with Client.open(Kubeconfig(server=f"http://127.0.0.1:{port}"), timeout_s=0.2) as client:
            with pytest.raises(errors.ApiUnreachable, match=r"within 0\.2 s"):
                await client.get(THINGS, A)
            with pytest.raises(errors.ApiUnreachable, match=r"within 0\.1 s"):
                await client.get(THINGS, A, timeout_s=0.1)
            with pytest.raises(errors.ApiUnreachable, match=r"within 0\.2 s"):
                async with client.watch(THINGS, resource_version="1"):
                    pass


async def test_a_burst_of_requests_shares_a_few_connections(client: Client, fake_api: FakeApi) -> None:
    """Each costs 128 KiB; and a watch never waits for one."""
    found = await asyncio.gather(*(client.find(THINGS, Key("a", f"n{number}")) for number in range(200)))
    assert found == [None] * 200
    assert len([each for each in client._transport._sockets if each.fileno() != -1]) <= CONNECTIONS
    async with AsyncExitStack() as stack:
        for _ in range(CONNECTIONS + 4):
            await stack.enter_async_context(client.watch(THINGS, resource_version="1"))
        assert await client.find(THINGS, A) is None


class MuteServer:
    """Shakes hands in TLS and from then on neither reads nor writes, as an API server that is stopped."""

    def __init__(self, folder: Path) -> None:
        leaf = issue(create_ca("mute"), "mute", Usage.SERVER)
        (folder / "crt").write_bytes(leaf.certificate)
        (folder / "key").write_bytes(leaf.key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "crt", folder / "key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[ssl.SSLSocket] = []
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection = self._context.wrap_socket(self._listener.accept()[0], server_side=True)
        self._connections.append(connection)
        connection.recv(1)
        self.asked.set()

    def close(self) -> None:
        self._thread.join()
        for each in (*self._connections, self._listener):
            each.close()


def test_a_closed_client_leaves_no_socket_behind_even_at_a_mute_server(tmp_path: Path) -> None:
    server = MuteServer(tmp_path)
    made: list[socket.socket] = []

    async def cut_off_a_request() -> None:
        async with Client.open(Kubeconfig(server=server.url, insecure=True)) as client:
            request = asyncio.create_task(client.get(NODES, Key("", "a")))
            await asyncio.to_thread(server.asked.wait, 10)
            request.cancel()
            await asyncio.wait([request])
            made.extend(client._transport._sockets)
            assert len(made) == 1

    try:
        asyncio.run(cut_off_a_request())
        assert [each.fileno() for each in made] == [-1]
    finally:
        server.close()


async def test_the_token_is_read_again_after_unauthorized(fake_api: FakeApi, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("old")

    def fault(request):  # type: ignore[no-untyped-def]
        token.write_text("new")
        return None if request.headers["Authorization"] == "Bearer new" else status_response(401, "Unauthorized")

    fake_api.faults.append(fault)
    async with Client.open(replace(fake_api.kubeconfig, token_file=token)) as client:
        assert await client.list(THINGS) == []
        assert len(fake_api.requests) == 2


async def test_a_wrong_token_is_asked_once_more_only(fake_api: FakeApi, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wrong")
    fake_api.fail(401, "Unauthorized", times=100)
    async with Client.open(replace(fake_api.kubeconfig, token_file=tmp_path / "token")) as client:
        with pytest.raises(errors.Unauthorized):
            await client.list(THINGS)
    assert len(fake_api.requests) == 2


async def test_apply_and_status(client: Client, fake_api: FakeApi) -> None:
    made = await client.apply(THINGS, {"metadata": {"name": "a", "namespace": "default"}, "spec": {"n": 1}}, manager="me")
    assert (made["apiVersion"], made["kind"]) == ("t.dev/v1", "Thing")
    assert "fieldManager=me&force=true" in fake_api.requests[-1][1]
    made["metadata"]["labels"] = {"must": "not be sent"}
    await client.apply_status(THINGS, {**made, "status": {"ready": True}}, manager="me", force=False)
    assert "/things/a/status?fieldManager=me&force=false" in fake_api.requests[-1][1]
    stored = await client.get(THINGS, A)
    assert stored["status"] == {"ready": True}
    assert "labels" not in stored["metadata"]


async def test_guarded_writes_conflict(client: Client) -> None:
    old = await client.create(THINGS, THINGS.new(A, spec={"n": 1}))
    await client.patch(THINGS, A, {"spec": {"n": 2}})
    with pytest.raises(errors.Conflict):
        await client.replace(THINGS, old)
    with pytest.raises(errors.Conflict):
        await client.patch(THINGS, A, {"metadata": {"resourceVersion": old["metadata"]["resourceVersion"]}})
    with pytest.raises(errors.Conflict):
        await client.delete(THINGS, A, uid="another")


async def test_writes_are_told_but_dry_runs_and_reads_are_not(client: Client) -> None:
    told: list[JsonObject] = []
    client.on_write = lambda resource, obj: told.append(obj)
    made = await client.create(THINGS, THINGS.new(A))
    await client.get(THINGS, A)
    await client.patch(THINGS, A, {"spec": {}}, dry_run=True)
    await client.delete(THINGS, A)  # answered with a Status: there is no version to wait for
    assert told == [made]


async def test_watch_gives_events_in_order_over_split_chunks(client: Client, fake_api: FakeApi) -> None:
    fake_api.chunk_bytes = 7
    async with client.watch(THINGS, resource_version="0", namespace="default") as events:
        await client.create(THINGS, THINGS.new(A, spec={"text": "ä" * 100}))
        await client.delete(THINGS, A)
        seen = [await anext(events) for _ in range(2)]
    assert [event.type for event in seen] == ["ADDED", "DELETED"]
    assert seen[0].object["spec"]["text"] == "ä" * 100
    query = fake_api.requests[0][1]
    assert "allowWatchBookmarks=true" in query
    assert 300 <= int(query.partition("timeoutSeconds=")[2]) <= 600


async def test_watch_lines_beyond_128_kib(client: Client, fake_api: FakeApi) -> None:
    fake_api.put("/apis/t.dev/v1/namespaces/default/things/a", THINGS.new(A, spec={"text": "x" * 3_000_000}))
    async with client.watch(THINGS, resource_version="0") as events:
        assert len((await anext(events)).object["spec"]["text"]) == 3_000_000


@pytest.mark.parametrize("as_event", [True, False])
async def test_expired_comes_both_ways(client: Client, fake_api: FakeApi, as_event: bool) -> None:
    fake_api.put("/apis/t.dev/v1/namespaces/default/things/a", THINGS.new(A))
    fake_api.expire()
    fake_api.expired_as_event = as_event
    with pytest.raises(errors.Expired):
        async with client.watch(THINGS, resource_version="1") as events:
            await anext(events)


async def test_other_error_events(client: Client, fake_api: FakeApi) -> None:
    async with client.watch(THINGS, resource_version="1") as events:
        fake_api.send_error(500, "InternalError")
        with pytest.raises(errors.ServerError, match="made to fail with 500"):
            await anext(events)


async def test_a_dropped_and_a_silent_watch(client: Client, fake_api: FakeApi) -> None:
    async def read_until_dropped() -> None:
        async with client.watch(THINGS, resource_version="1") as events:
            fake_api.drop_watches()
            await anext(events)

    with pytest.raises(errors.ApiUnreachable, match="connection broke"):
        await read_until_dropped()
    fake_api.silent_watches = True
    with pytest.raises(errors.ApiUnreachable, match=r"no event and no bookmark for 0\.1 s"):
        async with client.watch(THINGS, resource_version="1", silence_s=0.1) as events:
            await anext(events)


async def test_garbage_on_a_watch(client: Client, fake_api: FakeApi) -> None:
    async with client.watch(THINGS, resource_version="1") as events:
        fake_api.send_raw(b"{half")
        with pytest.raises(errors.ApiUnreachable, match="not JSON"):
            await anext(events)


def serve_kinds(fake_api: FakeApi, *, things_after: int = 0) -> None:
    from aiohttp import web

    asked = 0

    def fault(request: web.Request) -> web.StreamResponse | None:
        nonlocal asked
        kinds = {
            "/api/v1": [("namespaces", "Namespace", False), ("configmaps", "ConfigMap", True), ("pods/log", "Pod", True)],
            "/apis/apiextensions.k8s.io/v1": [("customresourcedefinitions", "CustomResourceDefinition", False)],
            "/apis/t.dev/v1": [("things", "Thing", True)],
        }.get(request.path)
        if kinds is None:
            return None
        if request.path == "/apis/t.dev/v1":
            asked += 1
            if asked <= things_after:
                return status_response(404, "NotFound")
        return web.json_response({"resources": [{"name": name, "kind": kind, "namespaced": scope} for name, kind, scope in kinds]})

    fake_api.faults.append(fault)


CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.t.dev"},
    "spec": {"group": "t.dev", "names": {"kind": "Thing"}, "versions": [{"name": "v1", "served": True}, {"name": "v0", "served": False}]},
}


async def test_discovery(client: Client, fake_api: FakeApi) -> None:
    serve_kinds(fake_api)
    kinds = Discovery(client)
    assert await kinds.get({"apiVersion": "v1", "kind": "ConfigMap"}) == CONFIG_MAPS
    assert await kinds.find("v1", "Namespace") == NAMESPACES
    assert await kinds.find("t.dev/v1", "Thing") == THINGS
    assert len(fake_api.requests) == 2
    with pytest.raises(errors.UserError, match=r"no kind Pod in v1 is served here"):
        await kinds.get({"apiVersion": "v1", "kind": "Pod"})
    with pytest.raises(errors.UserError, match="no apiVersion"):
        await kinds.get({})


async def test_apply_all_orders_waits_for_crds_and_places_namespaces(client: Client, fake_api: FakeApi) -> None:
    serve_kinds(fake_api, things_after=3)
    objects: list[JsonObject] = [
        {"apiVersion": "t.dev/v1", "kind": "Thing", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "blue"}}]},
        CRD,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "blue"}},
    ]
    stored = await apply_all(client, objects, manager="me", timeout_s=5)
    assert [obj["kind"] for obj in stored] == ["Thing", "Namespace", "CustomResourceDefinition", "ConfigMap"]
    assert stored[0]["metadata"]["namespace"] == "default"
    patched = [path.partition("?")[0].rpartition("/")[0] for method, path in fake_api.requests if method == "PATCH"]
    assert sorted(patched[:2]) == [NAMESPACES.path(), CRDS.path()] or sorted(patched[:2]) == [CRDS.path(), NAMESPACES.path()]
    assert patched[-1] == "/apis/t.dev/v1/namespaces/default/things"


async def test_apply_all_names_the_kinds_that_never_come(client: Client, fake_api: FakeApi) -> None:
    serve_kinds(fake_api, things_after=10_000)
    with pytest.raises(errors.TimedOut, match=r"the API server to serve Thing of t\.dev/v1"):
        await apply_all(client, [CRD], manager="me", timeout_s=0.3)


async def test_apply_all_raises_the_first_error_itself(client: Client, fake_api: FakeApi) -> None:
    serve_kinds(fake_api)
    fake_api.fail(422, "Invalid", method="PATCH", times=100)
    with pytest.raises(errors.Invalid):
        await apply_all(client, [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in "abc"], manager="me")


@pytest.mark.parametrize("bad", [None, "text", {"kind": None}, {"kind": "Pod"}, {"kind": "Pod", "metadata": {"generateName": "a"}}])
def test_what_is_no_manifest(bad: JsonObject) -> None:
    with pytest.raises(errors.UserError):
        flatten([bad])
