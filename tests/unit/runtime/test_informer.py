"""The informer against a server that misbehaves as real ones do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from pilvi.api import JsonObject, Key, Resource
from pilvi.errors import TimedOut
from pilvi.kube import Client
from pilvi.lib.deadline import wait_for
from pilvi.runtime import Informer, Informers
from pilvi.runtime import informer as informer_module
from pilvi.runtime.writes import current_writes
from tests.fake_api import FakeApi

THINGS = Resource("t.dev", "v1", "things", "Thing")
PREFIX = "/apis/t.dev/v1/namespaces/default/things/"
Change = tuple[str | None, str | None]


def put(api: FakeApi, name: str, n: int = 0, **metadata: object) -> JsonObject:
    return api.put(PREFIX + name, THINGS.new(Key("default", name), spec={"n": n}, metadata=metadata))


@pytest_asyncio.fixture
async def informers(fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Informers]:
    async with Client.open(fake_api.kubeconfig) as client:
        shared = Informers(client)
        task = asyncio.create_task(shared.run())
        yield shared
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


@pytest.fixture
def changes() -> list[Change]:
    return []


@pytest.fixture
def informer(informers: Informers, changes: list[Change]) -> Informer:
    made = informers.get(THINGS)

    def name(obj: JsonObject | None) -> str | None:
        return None if obj is None else f"{obj['metadata']['name']}{obj['spec']['n']}"

    made.subscribe(lambda old, new: changes.append((name(old), name(new))))
    return made


async def seen(informer: Informer, **expected: int) -> None:
    def same() -> bool:
        return {obj["metadata"]["name"]: obj["spec"]["n"] for obj in informer.list()} == expected

    await wait_for(same, 10, lambda: f"{expected}, cached are {informer.list()}", interval_s=0.01)


async def watched(api: FakeApi, count: int = 1) -> None:
    await wait_for(lambda: api.watching == count, 10, "an open watch", interval_s=0.01)


async def test_lists_then_follows(fake_api: FakeApi, informer: Informer, changes: list[Change]) -> None:
    put(fake_api, "a")
    await seen(informer, a=0)
    put(fake_api, "b", 1)
    put(fake_api, "a", 2)
    fake_api.remove(PREFIX + "b")
    await seen(informer, a=2)
    assert changes == [(None, "a0"), (None, "b1"), ("a0", "a2"), ("b1", None)]
    cached = informer.get(Key("default", "a"))
    assert cached is not None
    assert "managedFields" not in cached["metadata"]
    assert (len(informer), informer.list("other"), informer.get(Key("default", "b"))) == (1, [], None)


async def test_a_late_subscriber_hears_of_what_is_there(fake_api: FakeApi, informer: Informer) -> None:
    put(fake_api, "a")
    await seen(informer, a=0)
    heard: list[object] = []
    stop = informer.subscribe(lambda old, new: heard.append((old, new)))
    assert heard == [(None, informer.get(Key("default", "a")))]
    stop()
    put(fake_api, "b")
    await seen(informer, a=0, b=0)
    assert len(heard) == 1


async def test_resumes_a_dropped_watch_without_listing(fake_api: FakeApi, informer: Informer, changes: list[Change]) -> None:
    put(fake_api, "a")
    await seen(informer, a=0)
    await watched(fake_api)
    fake_api.drop_watches()
    put(fake_api, "b")
    await seen(informer, a=0, b=0)
    assert changes == [(None, "a0"), (None, "b0")]
    assert sum("watch=1" not in path for _, path in fake_api.requests) == 1


@pytest.mark.parametrize("as_event", [True, False])
async def test_410_lists_again_and_tells_what_nobody_saw(
    fake_api: FakeApi, informer: Informer, changes: list[Change], as_event: bool
) -> None:
    for name in ("gone", "kept", "changed", "remade"):
        put(fake_api, name)
    await seen(informer, gone=0, kept=0, changed=0, remade=0)
    await watched(fake_api)
    changes.clear()
    fake_api.expired_as_event = as_event
    fake_api.silent_watches = True
    fake_api.remove(PREFIX + "gone")
    fake_api.remove(PREFIX + "remade")
    put(fake_api, "remade", 1)
    put(fake_api, "changed", 1)
    put(fake_api, "new", 1)
    fake_api.expire()
    fake_api.silent_watches = False
    fake_api.drop_watches()
    await seen(informer, kept=0, changed=1, remade=1, new=1)
    assert sorted(changes, key=str) == sorted(
        [("gone0", None), ("remade0", None), (None, "remade1"), ("changed0", "changed1"), (None, "new1")], key=str
    )


async def test_other_errors_are_retried_and_the_cache_stays(fake_api: FakeApi, informer: Informer) -> None:
    put(fake_api, "a")
    await seen(informer, a=0)
    await watched(fake_api)
    fake_api.fail(500, "InternalError")
    fake_api.fail(403, "Forbidden")
    fake_api.send_error(500, "InternalError")
    await watched(fake_api, 0)
    assert len(informer) == 1
    put(fake_api, "b")
    await seen(informer, a=0, b=0)


async def test_the_first_list_is_retried_until_the_kind_exists(fake_api: FakeApi, informers: Informers) -> None:
    put(fake_api, "a")
    fake_api.fail(404, "NotFound", times=2)
    informer = informers.get(THINGS)
    assert not informer.synced.is_set()
    await informers.wait_synced(10)
    await seen(informer, a=0)


async def test_a_version_that_the_server_keeps_refusing_is_given_up(
    fake_api: FakeApi, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(fake_api, "a")
    await seen(informer, a=0)
    await watched(fake_api)

    def fault(request):  # type: ignore[no-untyped-def]
        from tests.fake_api import status_response

        if request.query.get("resourceVersion") == "101":
            return status_response(504, "Timeout")
        return None

    monkeypatch.setattr(informer_module, "_asked_s", lambda error: 0.0)
    fake_api.faults.append(fault)
    fake_api.silent_watches = True
    put(fake_api, "b")
    fake_api._history.clear()
    fake_api.silent_watches = False
    fake_api.drop_watches()
    await seen(informer, a=0, b=0)


async def test_events_in_pieces_and_bookmarks(fake_api: FakeApi, informer: Informer) -> None:
    fake_api.chunk_bytes = 5
    put(fake_api, "a")
    await seen(informer, a=0)
    await watched(fake_api)
    fake_api.silent_watches = True
    put(fake_api, "b")
    fake_api._history.clear()
    fake_api.silent_watches = False
    assert not await informer.wait_seen(102, 0.05)
    fake_api.send_bookmark()
    assert await informer.wait_seen(102, 5)


async def test_indices_follow(fake_api: FakeApi, informer: Informer) -> None:
    put(fake_api, "a", 1)
    put(fake_api, "b", 1)
    await seen(informer, a=1, b=1)
    informer.add_index("n", lambda obj: [obj["spec"]["n"], "any"] if obj["spec"]["n"] < 9 else [])

    def names(value: object) -> list[str]:
        return [obj["metadata"]["name"] for obj in informer.by_index("n", value)]

    assert (names(1), names(2), names("any")) == (["a", "b"], [], ["a", "b"])
    put(fake_api, "a", 2)
    await seen(informer, a=2, b=1)
    assert (names(1), names(2), names("any")) == (["b"], ["a"], ["a", "b"])
    put(fake_api, "a", 9)
    fake_api.remove(PREFIX + "b")
    await seen(informer, a=9)
    assert (names(1), names(2), names("any")) == ([], [], [])
    with pytest.raises(KeyError):
        informer.by_index("other", 1)


async def test_informers_are_shared_by_selection(fake_api: FakeApi, informers: Informers) -> None:
    assert informers.get(THINGS) is informers.get(THINGS, labels={})
    assert informers.get(THINGS, labels={"a": "b", "c": "d"}) is informers.get(THINGS, labels="a=b,c=d")
    assert informers.get(THINGS, "default") is not informers.get(THINGS)
    await informers.wait_synced(5)
    assert sum("watch=1" not in path for _, path in fake_api.requests) == 3


async def test_what_never_synced_is_named(fake_api: FakeApi, informers: Informers) -> None:
    fake_api.fail(403, "Forbidden", times=1000)
    informers.get(THINGS)
    with pytest.raises(TimedOut, match=r"the first list of things\.t\.dev"):
        await informers.wait_synced(0.2)


async def test_own_writes_are_expected_where_they_will_be_seen(fake_api: FakeApi, informers: Informers) -> None:
    everything = informers.get(THINGS)
    blue = informers.get(THINGS, labels={"color": "blue"})
    other = informers.get(THINGS, "other")
    named = informers.get(THINGS, fields="metadata.name=a")
    await informers.wait_synced(5)
    fake_api.hold_events = True
    writes: list[tuple[Informer, int]] = []
    token = current_writes.set(writes)
    made = await informers.client.create(THINGS, THINGS.new(Key("default", "a"), metadata={"labels": {"color": "red"}}))
    current_writes.reset(token)
    version = int(made["metadata"]["resourceVersion"])
    assert writes == [(everything, version)]
    assert blue is not other is not named
    waiting = asyncio.create_task(everything.wait_seen(version, 10))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    fake_api.release()
    assert await waiting


async def test_a_handler_that_raises_ends_all_informers_loudly(fake_api: FakeApi) -> None:
    async with Client.open(fake_api.kubeconfig) as client:
        informers = Informers(client)

        def broken(old: JsonObject | None, new: JsonObject | None) -> None:
            raise ZeroDivisionError("a bug")

        informers.get(THINGS).subscribe(broken)
        put(fake_api, "a")
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(informers.run(), 10)
        assert caught.group_contains(ZeroDivisionError)
