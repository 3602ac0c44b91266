"""Which API a command talks to: as root that of the cloud in the home, else what the user's kubeconfig says about it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi.cli.options import no_cloud
from pilvi.errors import ApiUnreachable, NotFound, TimedOut, UserError

if TYPE_CHECKING:
    from pilvi.api import JsonObject, Key
    from pilvi.cli.progress import Waiting
    from pilvi.host.cloud import Cloud
    from pilvi.host.units import UnitState
    from pilvi.kube import Client, Kubeconfig
    from pilvi.plane.status import EngineStatus

__all__ = ["describe_platform", "find_platform", "find_units", "get_platform", "get_tenant", "open_platform", "parse", "read_engine"]

REQUEST_TIMEOUT_S = 10.0
HINT = "pilvi status tells what runs; sudo pilvi up starts what does not"


def find_platform(home: Path) -> bytes | None:
    """A kubeconfig of the platform with one context, or None: the administrator's in the home when it may be read, else the
    context of this cloud in the user's kubeconfig, else (the cloud is on another host) the context `pilvi`.

    A home that the user has named is known to hold a cloud: `options.cloud_option` refuses others.
    """
    from pilvi.cli import contexts
    from pilvi.host.cloud import find_cloud

    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        return (home / "admin.conf").read_bytes()
    cloud = None
    with contextlib.suppress(PermissionError):
        cloud = find_cloud(home)
    return contexts.find_platform(cloud)


def get_platform(home: Path) -> bytes:
    """Like `find_platform`. Raises UserError when there is none."""
    found = find_platform(home)
    if found is None:
        path = home / "admin.conf"
        if path.exists() and not os.access(path, os.R_OK):
            raise UserError(
                f"{path} belongs to root, and your kubeconfig does not know this cloud",
                hint="sudo pilvi up (it merges the cloud into your kubeconfig), or set KUBECONFIG",
            )
        raise no_cloud(home)
    return found


def parse(kubeconfig: bytes) -> Kubeconfig:
    """What a kubeconfig says, for `Client.open`. Raises UserError."""
    import yaml

    from pilvi.kube import parse_kubeconfig

    try:
        return parse_kubeconfig(yaml.load(kubeconfig, Loader=yaml.CSafeLoader))
    except yaml.YAMLError as e:
        raise UserError("the kubeconfig is no YAML", hint="sudo pilvi up writes that of the cloud anew") from e


@asynccontextmanager
async def open_platform(home: Path, waiting: Waiting, timeout_s: float | None = None) -> AsyncIterator[Client]:
    """A client for the platform's API, for the length of a block. Until the block says otherwise, `waiting` shows that it has to answer.

    `timeout_s` bounds the whole block, for commands that only ask; without it each request has a deadline of its own, and waits are
    the caller's. Raises UserError, also for an API that does not answer, and TimedOut.
    """
    from pilvi.kube import Client

    kubeconfig = parse(get_platform(home))
    what = f"the cloud's API at {kubeconfig.server} to answer"
    waiting.show(what)
    try:
        async with asyncio.timeout(timeout_s) as deadline:
            async with Client.open(kubeconfig, timeout_s=timeout_s or REQUEST_TIMEOUT_S, user_agent="pilvi-cli") as client:
                yield client
    except TimeoutError:
        if timeout_s is None or not deadline.expired():
            raise
        raise TimedOut(what, timeout_s, HINT) from None
    except ApiUnreachable as e:
        raise UserError("the cloud's API does not answer", hint=HINT) from e
    finally:
        waiting.hide()


def describe_platform(home: Path) -> str:
    """Which cloud a command is about to change, for a question: context and server. Raises UserError."""
    import yaml

    content = get_platform(home)
    context = yaml.load(content, Loader=yaml.CSafeLoader)["current-context"]
    return f"{parse(content).server} (context {context})"


async def get_tenant(client: Client, cluster: Key) -> bytes:
    """The administrator's kubeconfig of a cluster. Raises UserError when there is no such cluster, or it has none yet."""
    from pilvi.api import Key
    from pilvi.api.builtin import CLUSTERS, SECRETS

    try:
        secret: JsonObject = await client.get(SECRETS, Key(cluster.namespace, f"{cluster.name}-kubeconfig"))
    except NotFound as e:
        if await client.find(CLUSTERS, cluster) is None:
            raise UserError(f"there is no cluster {cluster}", hint="pilvi cluster list") from e
        raise UserError(
            f"cluster {cluster} has no kubeconfig yet: its API server has not answered", hint=f"pilvi why cluster/{cluster}"
        ) from e
    return base64.b64decode(secret["data"]["value"])


def find_units(home: Path) -> list[UnitState]:
    """The units of the cloud in that home, as far as this user may see them: only root sees any."""
    from pilvi.host.cloud import find_cloud
    from pilvi.plane import status

    with contextlib.suppress(PermissionError):
        return status.find_units(find_cloud(home))
    return []


def read_engine(cloud: Cloud | None) -> EngineStatus:
    """Which process is the engine; without one on this host both fields are None."""
    from pilvi.engine.process import find_engine
    from pilvi.plane.status import EngineStatus

    engine = find_engine(cloud) if cloud else None
    return EngineStatus(engine.process.pid, engine.version) if engine else EngineStatus()
