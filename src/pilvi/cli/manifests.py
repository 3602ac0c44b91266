"""Manifest files that a user gives: read, applied, and waited for as far as they are clusters."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pilvi.errors import UserError

if TYPE_CHECKING:
    from pilvi.api import JsonObject, Key
    from pilvi.cli.progress import Waiting
    from pilvi.kube import Client

__all__ = ["MANAGER", "apply", "read", "wait_clusters"]

MANAGER = "pilvi-cli"


def read(files: Sequence[Path]) -> list[JsonObject]:
    """All objects of all files; `-` is standard input. Raises UserError with file and line for what is no manifest."""
    documents: list[JsonObject] = []
    for file in files:
        try:
            text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
            loaded: list[Any] = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
        except (yaml.YAMLError, UnicodeDecodeError) as e:
            raise UserError(f"{file} is no YAML: {' '.join(str(e).split())}", hint="mend the file; nothing has been changed") from e
        found = [document for document in loaded if document is not None]
        if any(not isinstance(document, dict) or not document.get("kind") for document in found):
            raise UserError(f"{file} holds a document that is no Kubernetes object", hint="each needs apiVersion, kind and metadata.name")
        documents += found
    return documents


async def apply(client: Client, documents: Sequence[JsonObject]) -> list[Key]:
    """Apply the objects; returns the Clusters among them. Raises UserError and what the API refuses."""
    from pilvi.api import Key
    from pilvi.kube import apply_all

    stored = await apply_all(client, documents, manager=MANAGER)
    return [Key.of(obj) for obj in stored if obj["kind"] == "Cluster" and obj["apiVersion"].startswith("cluster.x-k8s.io/")]


async def wait_clusters(client: Client, clusters: Sequence[Key], waiting: Waiting, timeout_s: float, home: Path) -> None:
    """Wait until all these clusters are ready. Raises TimedOut with the reason of the first that is not."""
    from pilvi.cli.cluster.ready import wait_ready

    deadline = asyncio.get_running_loop().time() + timeout_s
    for cluster in clusters:
        left_s = max(0.1, deadline - asyncio.get_running_loop().time())
        await wait_ready(client, cluster, waiting, left_s, home)
        waiting.line(f"  ✓ cluster {cluster}")
