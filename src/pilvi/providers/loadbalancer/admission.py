"""Checks of Services that ask for a cloud address before they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilvi.api import JsonObject
from pilvi.api.builtin import SERVICES
from pilvi.api.kamaji import TenantControlPlane
from pilvi.providers.admission import Check, Objection
from pilvi.providers.loadbalancer.allocation import Refusal, choose_cloud_address, find_request, held_addresses
from pilvi.providers.published import is_load_balancer
from pilvi.runtime import is_deleting

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["checks"]


def checks(platform: Platform) -> list[Check]:
    """The checks of this group."""
    services = platform.informers.get(SERVICES)
    control_planes = platform.informers.get(TenantControlPlane.RESOURCE)

    def of_service(service: JsonObject) -> Iterator[Objection]:
        if not is_load_balancer(service) or find_request(service) is None:
            return
        staying = (other for other in services.list() if not is_deleting(other))
        held = held_addresses(obj for obj in control_planes.list() if not is_deleting(obj))
        choice = choose_cloud_address(service, staying, platform.cloud.range, held)
        if isinstance(choice, Refusal):
            yield Objection(choice.message)

    return [Check(SERVICES, of_service)]
