"""The one object that a cluster is asked for with: upstream's own form, `spec.topology` of pilvi's ClusterClass. Pure."""

from __future__ import annotations

import re
from typing import Any

import click

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS
from pilvi.errors import WrongUse

__all__ = ["CLASS", "POOL", "build_cluster", "check_name", "check_version"]

CLASS = {"name": "pilvi", "namespace": "pilvi-system"}
POOL = "workers"
LONGEST_NAME = 63


def build_cluster(key: Key, version: str, workers: int, variables: dict[str, Any]) -> JsonObject:
    """The Cluster. `variables` are those of the ClusterClass; None leaves one to its default."""
    chosen = [{"name": name, "value": value} for name, value in variables.items() if value is not None]
    topology: JsonObject = {
        "classRef": CLASS,
        "version": version,
        # Kamaji's default is 2; one is what runs today, and what the columns of `kubectl get cluster` should compare with.
        "controlPlane": {"replicas": 1},
        "workers": {"machineDeployments": [{"class": "default-worker", "name": POOL, "replicas": workers}]},
    }
    if chosen:
        topology["variables"] = chosen
    return CLUSTERS.new(key, spec={"topology": topology})


def check_name(key: Key) -> None:
    """Raise UsageError for a name that the Service of the cluster's API server, a label and host names cannot have."""
    if len(key.name) > LONGEST_NAME:
        raise click.UsageError(f"the name {key.name!r} has {len(key.name)} characters; {LONGEST_NAME} are the most")
    if re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", key.name) is None:
        raise click.UsageError(f"{key.name!r} cannot be the name of a cluster: small letters, digits and -, beginning with a letter")


def check_version(version: str | None, known: list[str]) -> str:
    """The version with `v`, the newest for None. Raises WrongUse with the known ones."""
    if version is None:
        return known[-1]
    wanted = f"v{version.removeprefix('v')}"
    if wanted not in known:
        raise WrongUse(f"Kubernetes version {version} is not in the kit, which has: {', '.join(known)}", hint=f"use --version {known[-1]}")
    return wanted
