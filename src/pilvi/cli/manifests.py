"""Manifest files that a user gives: read, applied, and waited for as far as they are clusters."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pilvi.errors import WrongUse

if TYPE_CHECKING:
    from pilvi.api import JsonObject, Key
    from pilvi.cli.progress import Waiting
    from pilvi.kube import Client
    from pilvi.lib.deadline import Deadline

__all__ = ["MANAGER", "apply", "read", "wait_clusters"]

MANAGER = "pilvi-cli"


def read(files: Sequence[Path]) -> list[JsonObject]:
    """All objects of all files; `-` is standard input. Raises WrongUse with file and place for what is no manifest."""
    documents: list[JsonObject] = []
    for file in files:
        try:
            text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
            loaded: list[Any] = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as e:
            raise WrongUse(f"{file} cannot be read", hint="mend the file; nothing has been changed") from e
        found = [document for document in loaded if document is not None]
        for number, document in enumerate(found, 1):
            for obj in _flatten(document):
                if missing := _find_missing(obj):
                    raise WrongUse(
                        f"document {number} of {file} is no Kubernetes object: it has no {missing}",
                        hint="each needs apiVersion, kind and metadata.name; nothing has been changed",
                    )
        documents += found
    return documents


def _flatten(document: Any) -> Iterator[Any]:
    if isinstance(document, dict) and document.get("kind") == "List" and isinstance(document.get("items") or [], list):
        for item in document.get("items") or []:
            yield from _flatten(item)
    else:
        yield document


def _find_missing(obj: Any) -> str:
    """What an object lacks that no server could guess; empty when it has all."""
    fields = obj if isinstance(obj, dict) else {}
    for field in ("apiVersion", "kind"):
        if not isinstance(fields.get(field), str) or not fields[field]:
            return field
    metadata = fields.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return "" if isinstance(name, str) and name else "metadata.name"


async def apply(client: Client, documents: Sequence[JsonObject]) -> list[Key]:
    """Apply the objects; returns the Clusters among them. Raises UserError and what the API refuses."""
    from pilvi.api import Key
    from pilvi.kube import apply_all

    stored = await apply_all(client, documents, manager=MANAGER)
    return [Key.of(obj) for obj in stored if obj["kind"] == "Cluster" and obj["apiVersion"].startswith("cluster.x-k8s.io/")]


async def wait_clusters(client: Client, clusters: Sequence[Key], waiting: Waiting, deadline: Deadline, home: Path) -> None:
    """Wait until all these clusters are ready. Raises TimedOut with the reason of the first that is not."""
    from pilvi.cli.cluster.ready import wait_ready

    for cluster in clusters:
        await wait_ready(client, cluster, waiting, deadline.left_s, home)
        waiting.line(f"  ✓ cluster {cluster}")
