"""The informers of one API server, shared by all controllers on it: one watch per kind, namespace and selector."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from pilvi.api import JsonObject, Key, Resource
from pilvi.errors import TimedOut
from pilvi.kube import Client
from pilvi.kube.selectors import Selector, render_selector
from pilvi.runtime.informer import Informer

__all__ = ["Informers"]

_Scope = tuple[Resource, str | None, str | None, str | None]


class Informers:
    """Makes informers on first use and runs them. Takes over the client's `on_write`: one Informers per client."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._informers: dict[_Scope, Informer] = {}
        self._by_resource: dict[Resource, list[Informer]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        client.on_write = self._wrote

    def get(self, resource: Resource, namespace: str | None = None, labels: Selector = None, fields: Selector = None) -> Informer:
        """The shared informer of that kind and selection; the same arguments give the same one. Runs as soon as `run` does."""
        scope = (resource, namespace, render_selector(labels), render_selector(fields))
        informer = self._informers.get(scope)
        if informer is None:
            informer = Informer(self.client, resource, namespace=namespace, labels=labels, fields=fields)
            self._informers[scope] = informer
            self._by_resource.setdefault(resource, []).append(informer)
            if self._tasks is not None:
                self._tasks.create_task(informer.run(), name=f"informer {resource}")
        return informer

    async def run(self) -> None:
        """Run all informers, also those asked for later, until cancelled. Raises when one of them dies of a bug."""
        async with asyncio.TaskGroup() as group:
            self._tasks = group
            try:
                for informer in self._informers.values():
                    group.create_task(informer.run(), name=f"informer {informer.resource}")
                await asyncio.get_running_loop().create_future()  # a TaskGroup takes later tasks while its body runs
            finally:
                self._tasks = None

    async def wait_synced(self, timeout_s: float) -> None:
        """Wait until every informer that exists now has listed once. TimedOut names those that have not."""
        try:
            async with asyncio.timeout(timeout_s):
                for informer in [*self._informers.values()]:
                    await informer.synced.wait()
        except TimeoutError as e:
            missing = ", ".join(sorted(str(informer.resource) for informer in self if not informer.synced.is_set()))
            raise TimedOut(f"the first list of {missing}", timeout_s) from e

    def __iter__(self) -> Iterator[Informer]:
        return iter([*self._informers.values()])

    def _wrote(self, resource: Resource, obj: JsonObject) -> None:
        for informer in self._by_resource.get(resource, ()):
            if _sees(informer, obj):
                informer.expect(obj)


def _sees(informer: Informer, obj: JsonObject) -> bool:
    """Whether the informer will be told of this object. When in doubt no: expecting what never comes costs five seconds."""
    if informer.namespace and informer.namespace != obj["metadata"].get("namespace"):
        return False
    if informer.get(Key.of(obj)) is not None:
        return True  # also when it no longer matches: then its deletion is told
    if informer.fields or isinstance(informer.labels, str):
        return False
    labels = obj["metadata"].get("labels") or {}
    return all(labels.get(name) == value for name, value in (informer.labels or {}).items())
