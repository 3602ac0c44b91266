"""Finalizers and Events against the fake API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from pilvi import errors
from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import EVENTS
from pilvi.kube import Client
from pilvi.lib.deadline import wait_for
from pilvi.runtime import EventRecorder, ensure_finalizer, has_finalizer, is_deleting, remove_finalizer
from pilvi.runtime import events as events_module
from tests.fake_api import FakeApi

THINGS = Resource("t.dev", "v1", "things", "Thing")
A = Key("default", "a")


@pytest_asyncio.fixture
async def client(fake_api: FakeApi) -> AsyncIterator[Client]:
    async with Client.open(fake_api.kubeconfig) as opened:
        yield opened


@pytest_asyncio.fixture
async def recorder(client: Client) -> AsyncIterator[EventRecorder]:
    made = EventRecorder(client, "pilvi-test")
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_finalizer_comes_once_and_goes(client: Client, fake_api: FakeApi) -> None:
    await client.create(THINGS, THINGS.new(A, metadata={"finalizers": ["theirs"]}))
    obj = await ensure_finalizer(client, THINGS, await client.get(THINGS, A), "ours")
    assert obj["metadata"]["finalizers"] == ["theirs", "ours"]
    requests = len(fake_api.requests)
    assert await ensure_finalizer(client, THINGS, obj, "ours") is obj
    assert len(fake_api.requests) == requests
    await client.delete(THINGS, A)
    obj = await client.get(THINGS, A)
    assert is_deleting(obj)
    await remove_finalizer(client, THINGS, obj, "ours")
    obj = await client.get(THINGS, A)
    assert not has_finalizer(obj, "ours")
    await remove_finalizer(client, THINGS, obj, "theirs")
    assert await client.find(THINGS, A) is None
    await remove_finalizer(client, THINGS, obj, "theirs")


async def test_a_finalizer_that_somebody_adds_meanwhile_is_not_lost(client: Client) -> None:
    stale = await client.create(THINGS, THINGS.new(A))
    await client.patch(THINGS, A, {"metadata": {"finalizers": ["theirs"]}})
    with pytest.raises(errors.Conflict):
        await ensure_finalizer(client, THINGS, stale, "ours")
    assert (await client.get(THINGS, A))["metadata"]["finalizers"] == ["theirs"]


def stored_events(api: FakeApi) -> list[JsonObject]:
    return [obj for path, obj in api.objects.items() if "/events/" in path]


async def test_an_event_names_its_object(client: Client, fake_api: FakeApi, recorder: EventRecorder) -> None:
    obj = await client.create(THINGS, THINGS.new(A))
    recorder.record(obj, "Warning", "Broken", "x" * 5000)
    await wait_for(lambda: stored_events(fake_api), 30, "the event")
    (event,) = await client.list(EVENTS, namespace="default")
    assert event["involvedObject"] == {
        "apiVersion": "t.dev/v1",
        "kind": "Thing",
        "name": "a",
        "namespace": "default",
        "uid": obj["metadata"]["uid"],
        "resourceVersion": obj["metadata"]["resourceVersion"],
    }
    assert (event["type"], event["reason"], event["count"], len(event["message"])) == ("Warning", "Broken", 1, 1024)


async def test_the_same_event_again_raises_its_count(
    client: Client, fake_api: FakeApi, recorder: EventRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "REPEAT_S", 0.1)
    obj = await client.create(THINGS, THINGS.new(A))
    recorder.record(obj, "Normal", "Tried", "once more")
    await wait_for(lambda: stored_events(fake_api), 30, "the event")
    for _ in range(9):
        recorder.record(obj, "Normal", "Tried", "once more")
    recorder.record(obj, "Normal", "Tried", "something else")
    await wait_for(lambda: sorted(event["count"] for event in stored_events(fake_api)) == [1, 10], 30, "the counts")
    assert sum(method in ("POST", "PATCH") and "/events" in path for method, path in fake_api.requests) == 3


async def test_an_event_that_expired_is_written_anew(
    client: Client, fake_api: FakeApi, recorder: EventRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "REPEAT_S", 0.0)
    obj = await client.create(THINGS, THINGS.new(A))
    recorder.record(obj, "Normal", "Tried", "once more")
    await wait_for(lambda: stored_events(fake_api), 30, "the event")
    fake_api.remove(next(path for path in fake_api.objects if "/events/" in path))
    recorder.record(obj, "Normal", "Tried", "once more")
    await wait_for(lambda: [event["count"] for event in stored_events(fake_api)] == [2], 30, "the event again")


async def test_a_refused_event_hurts_nobody(client: Client, fake_api: FakeApi, recorder: EventRecorder) -> None:
    obj = await client.create(THINGS, THINGS.new(A))
    fake_api.fail(403, "Forbidden", method="POST")
    recorder.record(obj, "Normal", "First", "is refused")
    recorder.record(obj, "Normal", "Second", "is written")
    await wait_for(lambda: [event["reason"] for event in stored_events(fake_api)] == ["Second"], 30, "the second event")


async def test_a_cluster_scoped_object_has_its_events_in_default(client: Client, fake_api: FakeApi, recorder: EventRecorder) -> None:
    recorder.record({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "1"}}, "Normal", "Ready", "is up")
    await wait_for(lambda: stored_events(fake_api), 30, "the event")
    assert stored_events(fake_api)[0]["metadata"]["namespace"] == "default"
    assert "namespace" not in stored_events(fake_api)[0]["involvedObject"]
