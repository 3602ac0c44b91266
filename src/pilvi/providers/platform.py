"""What every provider is handed: the cloud it works for and the tools it works with.

Made once by `engine/`; a test makes one with what the controller under test needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pilvi.host.nft import Tables
from pilvi.images import ImageStore

if TYPE_CHECKING:
    from pilvi.host.cloud import Cloud
    from pilvi.host.units import Units
    from pilvi.kube import Client
    from pilvi.runtime import EventRecorder, Informers
    from pilvi.tenant import TenantClients

__all__ = ["Kit", "Platform", "Settings"]


class Kit(Protocol):
    """What providers ask of the kit; the package `pilvi.kit` is one."""

    def built_versions(self) -> list[str]:
        """Kubernetes versions that clusters may have now, as `v1.37.2`, newest last; asked each time, as more may be built meanwhile."""

    def has_kubernetes(self, version: str) -> bool:
        """Whether the programs of this version are here; also of one that clusters may have no more."""

    def get_binary(self, name: str, kubernetes: str | None = None) -> Path:
        """Path of a binary of that Kubernetes version; raises UserError, naming what to build, when it is not here."""


@dataclass(frozen=True)
class Settings:
    """What an operator or a test may set for all controllers of one cloud."""

    leaf_lifetime: timedelta = timedelta(days=365)
    """Life of the certificates that the engine issues; they are renewed when a third of it is left."""


@dataclass(frozen=True, eq=False)
class Platform:
    """The cloud, the client of its platform API, and what the controllers share.

    `client` and `informers` speak to the platform's API server, `tenants` has a client for each tenant cluster. `tables` knows which
    packet filters the controllers have written.
    """

    cloud: Cloud
    client: Client
    informers: Informers
    units: Units
    events: EventRecorder
    kit: Kit
    tenants: TenantClients
    settings: Settings = field(default_factory=Settings)
    tables: Tables = field(default_factory=Tables)

    @property
    def authority(self) -> str:
        """The platform's certificate authority in PEM, which signs for the engine's proxies as well; empty when the client has none."""
        found = self.client.kubeconfig.ca
        return (found.read_bytes() if isinstance(found, Path) else found or b"").decode("ascii")

    @cached_property
    def images(self) -> ImageStore:
        """Container disks, for machines and for imports: one store, since its locks are those of one object."""
        return ImageStore(self.cloud.home / "images")

    @property
    def registry_authority(self) -> str:
        """The authority (PEM) that the cloud's own registry is known by; empty where nobody has set one."""
        return self.images.own.endpoint.authority if self.images.own is not None else ""
