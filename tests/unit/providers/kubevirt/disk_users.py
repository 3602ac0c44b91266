"""Instances that have, or want, the disk of one claim."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.instance.volumes.holders import DiskHolders

CLAIM: JsonObject = {"metadata": {"name": "data", "namespace": "team"}, "spec": {"accessModes": ["ReadWriteOnce"]}}


class Instances:
    """A cache of instances that are what the test says."""

    def __init__(self, objects: list[JsonObject]) -> None:
        self.objects = objects

    def add_index(self, _name: str, function: Callable[[JsonObject], Iterable[Hashable]]) -> None:
        self.keys = function

    def by_index(self, _name: str, value: Hashable) -> list[JsonObject]:
        return [obj for obj in self.objects if value in self.keys(obj)]


def user(name: str, phase: str, source: JsonObject | None = None, disk: JsonObject | None = None, **status: Any) -> JsonObject:
    """An instance with the claim; `source` is what its volume says of it, `disk` what the disk in front of it does."""
    source = {"claimName": "data", **(source or {})}
    volume = {"ephemeral": {"persistentVolumeClaim": source}} if source.pop("ephemeral", False) else {"persistentVolumeClaim": source}
    return {
        "metadata": {"name": name, "namespace": "team", "uid": f"uid-{name}"},
        "spec": {
            "domain": {"devices": {"disks": [{"name": "data", **(disk or {})}]}},
            "volumes": [{"name": "root", "containerDisk": {"image": "a"}}, {"name": "data", **volume}],
        },
        "status": {"phase": phase, **status},
    }


def holders(*users: JsonObject) -> Any:
    return DiskHolders(Instances(list(users)))  # type: ignore[arg-type]
