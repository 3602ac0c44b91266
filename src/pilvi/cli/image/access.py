"""The way from a command to the cloud's registry: by the address and the authority of its API, with the password in its Secret."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from pilvi.errors import Transient, UserError

if TYPE_CHECKING:
    from pilvi.cli.progress import Waiting
    from pilvi.images import Credentials, Endpoint, Reference
    from pilvi.images.push import Writer

__all__ = ["find_access", "open_writer", "parse_image"]


def parse_image(name: str) -> Reference:
    """`[pilvi.dev/]NAME[:TAG]` as a reference. Raises UsageError."""
    from pilvi.api.registry import REGISTRY_HOST
    from pilvi.images import parse_reference

    try:
        reference = parse_reference(f"{REGISTRY_HOST}/{name.removeprefix(f'{REGISTRY_HOST}/')}")
    except UserError as e:
        raise click.UsageError(f"{name!r} cannot be the name of an image: {e}") from None
    if reference.digest:
        raise click.UsageError(f"{name!r} is a digest; give a name with a tag")
    return reference


async def find_access(home: Path, waiting: Waiting, timeout_s: float) -> tuple[Endpoint, Credentials]:
    """Where the registry is, and what it takes to push. Raises UserError, also for who may not read the Secret, TimedOut."""
    from pilvi.api.builtin import SECRETS
    from pilvi.api.registry import REGISTRY_HOST, REGISTRY_PORT, REGISTRY_SECRET
    from pilvi.cli.connection import get_platform, open_platform, parse
    from pilvi.errors import Forbidden
    from pilvi.images import Endpoint, read_docker_config

    kubeconfig = parse(get_platform(home))
    host = urlsplit(kubeconfig.server).hostname or ""
    authority = kubeconfig.ca.read_bytes() if isinstance(kubeconfig.ca, Path) else kubeconfig.ca
    try:
        endpoint = Endpoint(REGISTRY_HOST, IPv4Address(host), (authority or b"").decode(), REGISTRY_PORT)
    except AddressValueError as e:
        raise UserError(f"the kubeconfig says {host}, and the registry is known by its address only", hint="sudo pilvi up") from e
    async with open_platform(home, waiting, timeout_s) as client:
        try:
            secret = await client.find(SECRETS, REGISTRY_SECRET)
        except Forbidden as e:
            raise UserError(
                "you may not read the password of the registry", hint=f"ask for the right to get Secret {REGISTRY_SECRET}"
            ) from e
    if secret is None:
        raise UserError("the registry has no password yet", hint="it is made a moment after `pilvi up`; see `sudo pilvi logs engine`")
    return endpoint, read_docker_config(base64.b64decode(secret["data"][".dockerconfigjson"]))[REGISTRY_HOST]


@asynccontextmanager
async def open_writer(home: Path, waiting: Waiting, timeout_s: float) -> AsyncIterator[Writer]:
    """The registry, to be written to, for the length of a block. Raises UserError, TimedOut."""
    from pilvi.images.push import Writer

    endpoint, credentials = await find_access(home, waiting, timeout_s)
    try:
        async with Writer(endpoint, credentials) as writer:
            yield writer
    except Transient as e:
        raise UserError("the registry fails", hint="pilvi status tells whether it runs; sudo pilvi logs registry tells why not") from e
