"""Cloud addresses for Services of type LoadBalancer: one allocator over the cloud's range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.providers.loadbalancer.admission import checks
from pilvi.providers.loadbalancer.controller import LoadBalancerReconciler
from pilvi.runtime import Controller

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["checks", "controllers"]


def controllers(platform: Platform) -> list[Controller]:
    """The controllers of this group."""
    return [LoadBalancerReconciler(platform).controller()]
