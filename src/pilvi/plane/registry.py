"""The cloud's own registry: distribution as a unit of the platform, and the password with which one pushes.

    <home>/registry/tls.crt, tls.key    shown to clients, signed by the platform's authority; read again when they change
    <home>/registry/password            SHA-256 of the password, read at each use
    <home>/registry/data/               what was pushed, in distribution's own layout

Only `data` belongs to the unit's user. The password itself is in a Secret and nowhere else, and the Secret decides: when it is changed,
the file follows, and when it is deleted, another password is made. Nothing else of the cloud waits for the registry.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from pilvi import kit
from pilvi.api import JsonObject, Key
from pilvi.api.builtin import SECRETS
from pilvi.api.registry import REGISTRY_HOST, REGISTRY_PORT, REGISTRY_SECRET, REGISTRY_USER
from pilvi.errors import AlreadyExists, PilviError, UserError, format_chain
from pilvi.host.units import CgroupLimits, TcpProbe, UnitSpec
from pilvi.images import Credentials, Endpoint, make_docker_config, read_docker_config
from pilvi.lib.files import write_atomic
from pilvi.node.container_disk import NodeDisks

if TYPE_CHECKING:
    from pilvi.controlplane import ControlPlane
    from pilvi.host.cloud import Cloud
    from pilvi.host.units import Units
    from pilvi.kube import Client
    from pilvi.pki import KeyPair
    from pilvi.runtime import Informers

__all__ = ["UNIT", "install_certificate", "keep_registry", "make_secret", "node_disks", "registry_uid", "registry_unit"]

UNIT = "registry"
CHECK_S = 60.0
# Idle it has 5 MB that are its own. The page cache of what it sends counts too, and gives way.
MEMORY_BYTES = 256 << 20
_PASSWORD_BYTES = 24

log = logging.getLogger(__name__)


def registry_uid(cloud: Cloud) -> int:
    """The host uid of the unit: the last but one of the cloud's (`providers/uids.py`)."""
    return cloud.uids[-2]


def registry_unit(cloud: Cloud, plane: ControlPlane) -> UnitSpec:
    """The unit. Raises UserError when the kit lacks the program."""
    folder, uid = _folder(cloud), registry_uid(cloud)
    return UnitSpec(
        name=UNIT,
        argv=(
            str(kit.get_binary("registry")),
            f"--address={plane.address}:{REGISTRY_PORT}",
            f"--folder={folder}",
            f"--user={REGISTRY_USER}",
        ),
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "GOGC": "50", "GOMEMLIMIT": "96MiB"},
        netns=plane.netns,
        uid=uid,
        gid=uid,
        cwd=folder,
        cgroup=CgroupLimits(memory_bytes=MEMORY_BYTES, pids=256),
        log_path=plane.log_dir / f"{UNIT}.log",
        ready=TcpProbe(host=str(plane.address), port=REGISTRY_PORT),
        stop_grace_s=5.0,
    )


def node_disks(cloud: Cloud, plane: ControlPlane, client: Client) -> NodeDisks:
    """What puts node images into the registry. Raises OSError when the platform's authority cannot be read."""
    authority = (plane.pki_dir / "ca.crt").read_text()
    endpoint = Endpoint(REGISTRY_HOST, cloud.platform_address.ip, authority, REGISTRY_PORT)

    async def credentials() -> Credentials:
        return _read_secret(await client.get(SECRETS, REGISTRY_SECRET))

    return NodeDisks(endpoint, credentials, kit.get_folder(), _folder(cloud) / "scratch")


def install_certificate(cloud: Cloud, pair: KeyPair) -> None:
    """Write certificate and key where they differ, and make the folders. Short blocking writes. Raises OSError."""
    folder, uid = _folder(cloud), registry_uid(cloud)
    data = folder / "data"
    for path, mode, owner in ((folder, 0o750, (os.geteuid(), uid)), (data, 0o700, (uid, uid))):
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        os.chown(path, *owner)
        path.chmod(mode)
    # The key first: the registry looks at the certificate to see that both have changed.
    _write(cloud, folder / "tls.key", pair.key)
    _write(cloud, folder / "tls.crt", pair.certificate)


async def keep_registry(cloud: Cloud, plane: ControlPlane, client: Client, informers: Informers, units: Units) -> None:
    """Have the registry run, with the password of its Secret, for as long as the engine runs. Ends by cancellation only."""
    changed = asyncio.Event()

    def look(old: JsonObject | None, new: JsonObject | None) -> None:
        obj = new or old
        if obj is not None and Key.of(obj) == REGISTRY_SECRET:
            changed.set()

    informers.get(SECRETS).subscribe(look)
    while True:
        changed.clear()
        # Each without the other: who pulls needs no password.
        try:
            await units.ensure(registry_unit(cloud, plane))
        except (PilviError, OSError) as e:
            log.warning("the registry cannot be started now: %s", format_chain(e))
        try:
            _write(cloud, _folder(cloud) / "password", await _ensure_password(client))
        except (PilviError, OSError) as e:
            log.warning("the registry's password stays as it was: %s", format_chain(e))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_S):
                await changed.wait()


def make_secret(password: str) -> JsonObject:
    """The Secret for this password. Pure."""
    config = json.dumps(make_docker_config(Credentials(REGISTRY_USER, password), REGISTRY_HOST)).encode()
    return SECRETS.new(
        REGISTRY_SECRET,
        type="kubernetes.io/dockerconfigjson",
        data={".dockerconfigjson": base64.b64encode(config).decode()},
    )


async def _ensure_password(client: Client) -> bytes:
    """The hash of the password in the Secret, which is made when there is none. Raises UserError for one that holds none, ApiError."""
    secret = await client.find(SECRETS, REGISTRY_SECRET)
    if secret is None:
        with contextlib.suppress(AlreadyExists):
            await client.create(SECRETS, make_secret(secrets.token_urlsafe(_PASSWORD_BYTES)))
        secret = await client.get(SECRETS, REGISTRY_SECRET)
    return hashlib.sha256(_read_secret(secret).password.encode()).hexdigest().encode()


def _read_secret(secret: JsonObject) -> Credentials:
    found = read_docker_config(base64.b64decode((secret.get("data") or {}).get(".dockerconfigjson", "")))
    credentials = found.get(REGISTRY_HOST)
    if credentials is None or credentials.user != REGISTRY_USER or len(credentials.password) < _PASSWORD_BYTES:
        raise UserError(
            f"Secret {REGISTRY_SECRET} holds no password of {_PASSWORD_BYTES} characters or more for {REGISTRY_USER} at {REGISTRY_HOST}",
            hint=f"kubectl -n {REGISTRY_SECRET.namespace} delete secret {REGISTRY_SECRET.name}: another one is made",
        )
    return credentials


def _write(cloud: Cloud, path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        write_atomic(path, data, mode=0o640, owner=(os.geteuid(), registry_uid(cloud)))


def _folder(cloud: Cloud) -> Path:
    return cloud.home / "registry"
