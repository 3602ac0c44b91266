"""Kube-OVN's kinds: Vpc, Subnet and IP.

    vpc/      the router of each Vpc: one network namespace, its links, routes and rules, DNS and DHCP
    subnet/   what a Subnet asks for, its status and its end
    ip/       addresses and MACs of machines

No reconciler calls another. They read the same caches (`objects.py`) through the same pure functions, so they agree without talking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.providers.kubeovn.admission import checks
from pilvi.providers.kubeovn.ip.controller import IPReconciler
from pilvi.providers.kubeovn.objects import Objects
from pilvi.providers.kubeovn.subnet.controller import SubnetReconciler
from pilvi.providers.kubeovn.sweep import OwnerSweep
from pilvi.providers.kubeovn.vpc.controller import VpcReconciler
from pilvi.runtime import Controller

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["checks", "controllers"]


def controllers(platform: Platform) -> list[Controller]:
    """The controllers of this group."""
    objects = Objects(platform.informers, platform.cloud)
    sweep = OwnerSweep(platform.client)
    return [
        VpcReconciler(platform, objects, sweep).controller(),
        SubnetReconciler(platform, objects, sweep).controller(),
        IPReconciler(platform, objects).controller(),
    ]
