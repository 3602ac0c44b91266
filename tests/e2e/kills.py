"""For the long tests of machines: the engine dies at counted events, and a witness sees every process of a machine.

with Witness(cloud) as witness, Killer(cloud, namespace) as killer:
    killer.kill_at(3, 8)   # at the third and the eighth change of an object of the namespace from now on
    cloud.apply(machine)
    ...                    # wait for what must come true nevertheless
    killer.rest()          # an engine runs, and nothing more happens to it
witness.check()
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS, PODS
from pilvi.api.crds import KINDS
from pilvi.api.object import Object
from pilvi.api.resource import Resource
from pilvi.host.cgroups import get_cgroups
from pilvi.host.cloud import get_cloud
from pilvi.kube import Client
from tests.e2e.cloud import CloudUnderTest
from tests.e2e.host import engine_processes, kill_engine, start_engine

__all__ = ["Killer", "Witness"]

WATCHED = {
    "DataVolume",
    "VirtualMachine",
    "VirtualMachineClone",
    "VirtualMachineInstance",
    "VirtualMachineInstanceMigration",
    "VirtualMachineRestore",
    "VirtualMachineSnapshot",
    "VirtualMachineSnapshotContent",
    "VolumeSnapshot",
}
LOOK_S = 0.02


class Killer:
    """kill -9 to the engine and its parent at the n-th event of a namespace, and another engine at once. `kills` says at which events.

    The count goes on when the next engine has claimed the cloud, with what has happened meanwhile: some die while they start.
    """

    def __init__(self, cloud: CloudUnderTest, namespace: str) -> None:
        self.kills: list[str] = []
        self._cloud, self._namespace = cloud, namespace
        self._points: list[int] = []
        self._seen = 0
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._failure: BaseException | None = None
        self._watching: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._watching.result(timeout=30)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        if exc is not None:
            exc.add_note(f"the engine was killed at: {self.kills}")
        try:
            self.rest()
        finally:
            if self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(timeout=30)

    def kill_at(self, *numbers: int) -> None:
        """Kill the engine at the events of these numbers, counted from now on."""
        with self._lock:
            self._seen, self._points = 0, sorted(numbers)

    def rest(self) -> None:
        """No more kills; an engine runs when this returns."""
        with self._lock:
            self._points = []
            if self._failure is not None:
                raise RuntimeError("the killer itself has failed") from self._failure
            if not engine_processes(self._cloud):
                start_engine(self._cloud)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._count_all())
        except BaseException as e:
            self._failure = e
            if not self._watching.done():
                self._watching.set_exception(e)
        finally:
            self._loop.close()

    async def _count_all(self) -> None:
        resources = [PODS, PERSISTENT_VOLUME_CLAIMS, *(kind.RESOURCE for kind in KINDS if _is_watched(kind))]
        async with Client.open(self._cloud.kubeconfig()) as client:
            ready = [asyncio.Event() for _ in resources]
            tasks = [asyncio.ensure_future(self._count(client, each, event)) for each, event in zip(resources, ready, strict=True)]
            for event in ready:
                await event.wait()
            self._watching.set_result(None)
            over = asyncio.ensure_future(self._over.wait())
            await asyncio.wait([over, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
                task.cancel()
            await asyncio.wait(tasks)

    async def _count(self, client: Client, resource: Resource, ready: asyncio.Event) -> None:
        version = (await client.list_with_version(resource, namespace=self._namespace)).resource_version
        while True:
            async with client.watch(resource, resource_version=version, namespace=self._namespace) as events:
                ready.set()
                async for event in events:
                    version = event.resource_version
                    if event.type != "BOOKMARK":
                        self._saw(f"{event.type} {resource.kind} {event.object['metadata']['name']}")

    def _saw(self, event: str) -> None:
        with self._lock:
            self._seen += 1
            if self._points and self._seen >= self._points[0]:
                self._points.pop(0)
                if engine_processes(self._cloud):
                    kill_engine(self._cloud, for_good=True)
                start_engine(self._cloud)
                self.kills.append(event)


class Witness:
    """Looks fifty times a second at which processes of QEMU there are, by the machine that they run."""

    def __init__(self, cloud: CloudUnderTest) -> None:
        self.runs: dict[str, set[int]] = defaultdict(set)
        """The pids that each unit ever had. A machine that starts anew is another instance, and has another unit."""
        self.most: dict[str, int] = defaultdict(int)
        """How many processes each machine had at the same time, at most. Two would write to one disk."""
        self._folder = get_cgroups().entries(get_cloud(cloud.home).cgroup_root)[0].parent
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """No machine ran twice at a time, and no instance was started a second time. Not for machines that move."""
        assert self.runs, "the witness has seen machines"
        assert {name: count for name, count in self.most.items() if count > 1} == {}
        assert {unit: pids for unit, pids in self.runs.items() if len(pids) > 1} == {}

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            found: dict[str, int] = defaultdict(int)
            for group in self._folder.glob("m-*"):
                for pid in _pids(group):
                    if (machine := _machine_of(pid)) is not None:
                        self.runs[group.name].add(pid)
                        found[machine] += 1
            for machine, count in found.items():
                self.most[machine] = max(self.most[machine], count)


def _is_watched(kind: type[Object]) -> bool:
    return kind.RESOURCE.kind in WATCHED


def _pids(group: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(word) for word in (group / "cgroup.procs").read_text().split()]
    return []


def _machine_of(pid: int) -> str | None:
    """Namespace and name of the machine that a process runs; None when it is no QEMU, or none any more."""
    with contextlib.suppress(OSError):
        for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            if word.startswith(b"guest="):
                return word.removeprefix(b"guest=").split(b",")[0].decode()
    return None
