"""Kamaji's kinds: control planes of clusters, alone (TenantControlPlane) or for Cluster API (KamajiControlPlane), and DataStore.

Each kind has its controller; they speak through their objects. What runs is described by `pilvi.controlplane`.
"""

from pilvi.providers.kamaji import datastore
from pilvi.providers.kamaji.admission import checks
from pilvi.providers.kamaji.kamajicontrolplane import controller as kamajicontrolplane
from pilvi.providers.kamaji.tenantcontrolplane import controller as tenantcontrolplane
from pilvi.providers.platform import Platform
from pilvi.runtime import Controller

__all__ = ["checks", "controllers"]


def controllers(platform: Platform) -> list[Controller]:
    """The controllers of all kinds here."""
    return [kamajicontrolplane.controller(platform), tenantcontrolplane.controller(platform), datastore.controller(platform)]
