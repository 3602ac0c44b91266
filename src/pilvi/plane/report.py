"""One archive with everything that somebody needs who looks for a fault from afar; secrets are left out (`redaction`).

    versions.json, status.json, findings.json      pilvi, Kubernetes, kernel; `pilvi status`; `pilvi doctor`
    objects/<plural.group>.yaml                     everything in the platform's API
    clusters/<namespace>/<name>/<plural>.yaml       Nodes, Pods, Events and workloads of each cluster
    logs/<unit>.log, units.json                     the end of each log; how each unit is started
    network/<namespace>.txt                         links, addresses, routes and rules
    missing.txt                                     what could not be read, and why

Works with a dead engine and a dead API: what cannot be read is named, the rest is there.
"""

from __future__ import annotations

import base64
import io
import os
import platform
import tarfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import yaml

from pilvi import __version__, kit
from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import CLUSTERS, CONFIG_MAPS, DAEMON_SETS, DEPLOYMENTS, EVENTS, NAMESPACES, NODES, PODS, SECRETS, SERVICES
from pilvi.errors import ApiError, PilviError, UserError, format_chain
from pilvi.host.cloud import DEFAULT_HOME, Cloud
from pilvi.host.netns import list_netns, netns_path
from pilvi.host.units import logs
from pilvi.host.units.record import list_records
from pilvi.kube import Client, Kubeconfig, parse_kubeconfig
from pilvi.lib.hashing import short_hash
from pilvi.lib.run import run
from pilvi.plane.doctor import examine
from pilvi.plane.redaction import redact, redact_text, redact_value
from pilvi.plane.status import Status

__all__ = ["write_report"]

LOG_BYTES = 2 << 20
API_TIMEOUT_S = 10.0
_COMMAND_TIMEOUT_S = 20.0
# The schemas are as the versions say, and Events are there in their other form.
_LEFT_OUT = {"apiextensions.k8s.io/v1": {"CustomResourceDefinition"}, "events.k8s.io/v1": {"Event"}}
_INSIDE: tuple[Resource, ...] = (NAMESPACES, NODES, PODS, EVENTS, DEPLOYMENTS, DAEMON_SETS, SERVICES, CONFIG_MAPS)


async def write_report(path: Path, status: Status, cloud: Cloud | None, kubeconfig: Kubeconfig | None) -> list[str]:
    """Write the archive (tar, gzip) to `path`, readable by its owner only; returns what could not be read.

    The file is made anew in the place of one that is there; after a cancellation it holds what was read until then. Without a cloud on
    this host there is only what the API and the host tell. Raises OSError, and UserError when something is in the way that is no file.
    """
    with os.fdopen(_make_anew(path), "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
        return await _fill(_Archive(tar), status, cloud, kubeconfig)


def _make_anew(path: Path) -> int:
    """The descriptor of a new file: who has the old one open, or has put a link there, gets nothing of it."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file", hint="name a new file, for example pilvi-report.tar.gz")
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


async def _fill(archive: _Archive, status: Status, cloud: Cloud | None, kubeconfig: Kubeconfig | None) -> list[str]:
    missing: list[str] = []
    archive.add_json("versions.json", _versions())
    archive.add_json("status.json", redact_value(msgspec.to_builtins(status)))  # causes are lines of logs
    await _add_findings(archive, cloud.home if cloud is not None else DEFAULT_HOME, missing)
    if kubeconfig is not None and not status.api:
        await _add_objects(archive, kubeconfig, missing)
    else:
        missing.append(f"objects: {status.api or 'no kubeconfig'}")
    if cloud is not None:
        _add_logs(archive, cloud, missing)
        await _add_network(archive, cloud, missing)
    missing = [redact_text(line) for line in missing]
    archive.add("missing.txt", "".join(f"{line}\n" for line in missing).encode())
    return missing


class _Archive:
    """The open archive; every member lies in one folder, so that unpacking it makes no mess."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(f"pilvi-report/{name}")
        info.size, info.mtime = len(data), int(time.time())
        self._tar.addfile(info, io.BytesIO(data))

    def add_json(self, name: str, value: Any) -> None:
        self.add(name, msgspec.json.format(msgspec.json.encode(value), indent=2))

    def add_objects(self, name: str, objects: Sequence[JsonObject]) -> None:
        if objects:
            text = yaml.dump_all(map(redact, objects), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
            self.add(name, str(text).encode())


def _versions() -> dict[str, Any]:
    release = Path("/etc/os-release")
    return {
        "pilvi": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "os": release.read_text(encoding="utf-8") if release.exists() else "",
        "memory": Path("/proc/meminfo").read_text(encoding="ascii").splitlines()[:3],
        "load": os.getloadavg(),
        "kit": [{"name": item.name, "key": item.key, "state": item.state, "versions": item.versions} for item in kit.list_artefacts()],
    }


async def _add_objects(archive: _Archive, kubeconfig: Kubeconfig, missing: list[str]) -> None:
    async with Client.open(kubeconfig, timeout_s=API_TIMEOUT_S) as client:
        try:
            resources = await _list_resources(client)
        except PilviError as e:
            missing.append(f"objects: {format_chain(e)}")
            return
        clusters: list[JsonObject] = []
        for resource in resources:
            try:
                objects = await client.list(resource)
            except PilviError as e:
                missing.append(f"objects/{resource}: {format_chain(e)}")
                continue
            archive.add_objects(f"objects/{resource}.yaml", objects)
            if str(resource) == str(CLUSTERS):
                clusters = objects
        for cluster in clusters:
            await _add_cluster(archive, client, Key.of(cluster), missing)


async def _add_cluster(archive: _Archive, platform_client: Client, cluster: Key, missing: list[str]) -> None:
    folder = f"clusters/{cluster.namespace}/{cluster.name}"
    try:
        secret = await platform_client.get(SECRETS, Key(cluster.namespace, f"{cluster.name}-kubeconfig"))
        document = yaml.load(base64.b64decode(secret["data"]["value"]), Loader=yaml.CSafeLoader)
        async with Client.open(parse_kubeconfig(document), timeout_s=API_TIMEOUT_S) as client:
            for resource in _INSIDE:
                archive.add_objects(f"{folder}/{resource}.yaml", await client.list(resource))
    except PilviError as e:
        missing.append(f"{folder}: {format_chain(e)}")


async def _list_resources(client: Client) -> list[Resource]:
    """Every kind of stored objects, in its preferred version. What can be listed but not watched is computed (ComponentStatus)."""
    groups = msgspec.json.decode(await client.raw("GET", "/apis"))["groups"]
    resources = []
    for version in ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]:
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        with suppress(ApiError):  # an aggregated API whose server is away
            for entry in msgspec.json.decode(await client.raw("GET", path))["resources"]:
                if (
                    "/" not in entry["name"]
                    and {"list", "watch"} <= set(entry["verbs"])
                    and entry["kind"] not in _LEFT_OUT.get(version, ())
                ):
                    group, _, number = version.rpartition("/")
                    resources.append(Resource(group, number, entry["name"], entry["kind"], namespaced=entry["namespaced"]))
    return resources


def _add_logs(archive: _Archive, cloud: Cloud, missing: list[str]) -> None:
    if os.geteuid() != 0:
        missing.append("logs, units.json: only root may read them")
        return
    records = list_records(cloud.units_dir)
    archive.add_json("units.json", redact_value([_unit(record) for record in records]))
    # Units that are gone have left logs as well.
    members = {f"logs/{path.name}": path for path in (cloud.home / "logs").glob("*.log")}
    members |= {f"logs/{record.spec.name}.log": record.spec.log_path for record in records}
    for path in (cloud.home / "machines").glob("*/state/layer/var/log/*.log"):  # what the guest itself wrote
        if not _is_plain(path, cloud.home / "machines"):
            continue  # a link may lead to any file of the host, and a pipe would be waited for
        members[f"logs/m-{short_hash(path.relative_to(cloud.home / 'machines').parts[0])}-{path.name}"] = path
    for name, path in sorted(members.items()):
        try:
            archive.add(name, redact_text(logs.tail(path, LOG_BYTES)).encode())
        except OSError as e:
            missing.append(f"{name}: {e.strerror}")


def _is_plain(path: Path, below: Path) -> bool:
    """Whether it is a regular file, reached from `below` without any link."""
    return path.resolve() == below.resolve() / path.relative_to(below) and path.is_file()


def _unit(record: Any) -> dict[str, Any]:
    spec = record.spec
    return {
        "name": spec.name,
        "argv": list(spec.argv),
        "netns": spec.netns,
        "uid": spec.uid,
        "pid": record.process.pid,
        "startedAt": record.started_at,
        "restarts": record.restarts,
        "exit": record.exit,
    }


async def _add_network(archive: _Archive, cloud: Cloud, missing: list[str]) -> None:
    if os.geteuid() != 0:
        missing.append("network: only root may look into the namespaces")
        return
    show = (["ip", "-d", "-s", "addr"], ["ip", "route", "show", "table", "all"], ["ip", "neigh"])
    inside = [*show, ["nft", "list", "ruleset"]]
    host = [*show, ["nft", "list", "table", "ip", cloud.nft_table], ["nft", "list", "table", "inet", cloud.nft_host_table]]
    for name, commands in {"host": host, **dict.fromkeys(list_netns(cloud.netns_prefix), inside)}.items():
        enter = [] if name == "host" else ["nsenter", f"--net={netns_path(name)}"]
        text = ""
        for command in commands:
            try:
                done = await run([*enter, *command], timeout_s=_COMMAND_TIMEOUT_S, check=False)
            except PilviError as e:
                missing.append(f"network/{name}: {format_chain(e)}")
                continue
            text += f"$ {' '.join(command)}\n{done.stdout}{done.stderr}\n"
        archive.add(f"network/{name}.txt", text.encode())


async def _add_findings(archive: _Archive, home: Path, missing: list[str]) -> None:
    try:
        archive.add_json("findings.json", await examine(home))
    except (PilviError, OSError) as e:
        missing.append(f"findings.json: {format_chain(e)}")
