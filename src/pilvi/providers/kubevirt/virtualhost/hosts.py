"""Which Nodes this engine is the kubelet of, and which of them have failed.

All virtual hosts of a cloud are this machine; what makes them several is in the API. Read from the cache at each question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import NODES
from pilvi.providers.kubevirt.virtualhost.node import node_name

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.runtime import Informers

__all__ = ["CLOUD_LABEL", "FAILED", "Hosts", "host_names", "is_failed"]

CLOUD_LABEL = "pilvi.dev/cloud"
FAILED = "pilvi.dev/failed"
"""Annotation on a Node: the host has failed, for an exercise. Its value says since when."""


def host_names(first: str, count: int) -> tuple[str, ...]:
    """The Nodes of a cloud with so many hosts. The first keeps its name whatever the number is, so that its machines stay."""
    return (first, *(f"{first}-{number}" for number in range(2, count + 1)))


def is_failed(node: JsonObject | None) -> bool:
    """Whether the host plays dead."""
    return node is not None and FAILED in (node["metadata"].get("annotations") or {})


class Hosts:
    """The hosts of the cloud: `wanted` are those that it shall have; more may be there until they are empty."""

    def __init__(self, cloud: Cloud, informers: Informers, first: str | None = None) -> None:
        self._cloud_id = cloud.id
        self._nodes = informers.get(NODES)
        self.wanted = host_names(first or node_name(), cloud.hosts)

    def find(self, name: str | None) -> JsonObject | None:
        """The Node of that name."""
        return self._nodes.get(Key("", name)) if name else None

    def owns(self, name: str | None) -> bool:
        """Whether this engine acts for the host of that name."""
        if name is None:
            return False
        return name in self.wanted or self._is_ours(self.find(name))

    def has_failed(self, name: str | None) -> bool:
        """Whether the host of that name plays dead."""
        return is_failed(self.find(name))

    def list(self) -> Sequence[JsonObject]:
        """All Nodes of the cloud, by name."""
        return sorted((node for node in self._nodes.list() if self._is_ours(node)), key=lambda node: str(node["metadata"]["name"]))

    def _is_ours(self, node: JsonObject | None) -> bool:
        return node is not None and (node["metadata"].get("labels") or {}).get(CLOUD_LABEL) == self._cloud_id
