"""The controller of DataStore.

One object, `default`, stands for an etcd of its own for each control plane. It says who uses it and cannot go before they do;
any other DataStore is told that nothing is stored there.
"""

from __future__ import annotations

from collections.abc import Iterable

from pilvi.api import JsonObject, Key
from pilvi.api.kamaji import DataStore, TenantControlPlane
from pilvi.providers.kamaji.names import DATASTORE_FINALIZER, DEFAULT_DATASTORE, MANAGER
from pilvi.providers.platform import Platform
from pilvi.runtime import (
    Controller,
    Done,
    Failed,
    Result,
    Waiting,
    any_change,
    condition,
    conditions_of,
    ensure_finalizer,
    has_finalizer,
    is_deleting,
    merge_conditions,
    remove_finalizer,
)

__all__ = ["DataStores", "compute_status", "controller", "find_store_problem"]

RESOURCE = DataStore.RESOURCE


class DataStores:
    """Reconciles DataStores."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._stores = platform.informers.get(RESOURCE)
        self._tenants = platform.informers.get(TenantControlPlane.RESOURCE)

    async def reconcile(self, key: Key) -> Result:
        """Write who uses the store; keep it as long as somebody does."""
        store = self._stores.get(key)
        if store is None:
            return Done()
        users = sorted(str(Key.of(tenant)) for tenant in self._tenants.list() if data_store_of(tenant) == key.name)
        if users and not is_deleting(store):
            store = await ensure_finalizer(self._platform.client, RESOURCE, store, DATASTORE_FINALIZER)
        elif not users:
            await remove_finalizer(self._platform.client, RESOURCE, store, DATASTORE_FINALIZER)
        if is_deleting(store) and not (users and has_finalizer(store, DATASTORE_FINALIZER)):
            return Done()
        status = compute_status(store, users)
        if status != store.get("status"):
            metadata = {"name": key.name, "uid": store["metadata"]["uid"]}
            await self._platform.client.apply_status(RESOURCE, {"metadata": metadata, "status": status}, manager=MANAGER)
        if is_deleting(store):
            return Waiting("InUse", f"DataStore {key} is used by {', '.join(users)}; delete these control planes first")
        return Done() if status["ready"] else Failed(f"DataStore {key} is not served here", permanent=True)


def data_store_of(tenant: JsonObject) -> str:
    """The name of the DataStore that a TenantControlPlane asks for."""
    name: str = (tenant.get("spec") or {}).get("dataStore") or DEFAULT_DATASTORE
    return name


def find_store_problem(name: str | None, field: str) -> str | None:
    """Why a control plane cannot have the DataStore `name`, which stands in `field`; None when it can."""
    if name in (None, "", DEFAULT_DATASTORE):
        return None
    return f"{field} {name!r} is not served here; write {DEFAULT_DATASTORE}, an etcd for each control plane"


def compute_status(store: JsonObject, users: list[str]) -> JsonObject:
    """The status of a DataStore that `users` (NAMESPACE/NAME, sorted) name. Pure."""
    name, driver = store["metadata"]["name"], (store.get("spec") or {}).get("driver")
    generation = store["metadata"].get("generation")
    served = name == DEFAULT_DATASTORE and driver == "etcd"
    if served:
        ready = condition("Ready", True, "OwnEtcdForEachControlPlane", observed_generation=generation)
    else:
        message = f"nothing is stored in DataStore {name} ({driver}); set dataStore: {DEFAULT_DATASTORE}, an etcd for each control plane"
        ready = condition("Ready", False, "NotServed", message)
    return {
        "ready": served,
        "usedBy": users,
        "observedGeneration": generation or 0,
        "conditions": merge_conditions(conditions_of(store), [ready]),
    }


def controller(platform: Platform) -> Controller:
    """The controller, woken by the control planes that name a store."""
    reconciler = DataStores(platform)

    def named(tenant: JsonObject) -> Iterable[Key]:
        return [Key("", data_store_of(tenant))]

    return Controller("datastore", RESOURCE, reconciler.reconcile, watches=[(TenantControlPlane.RESOURCE, named)], predicate=any_change)
