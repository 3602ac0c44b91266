"""KubevirtMachineTemplate: tells the autoscaler how large a machine would be, so that it can start from none."""

from __future__ import annotations

from pilvi.api import JsonObject, Key
from pilvi.lib.quantity import format_bytes
from pilvi.providers.capk.names import MACHINE_TEMPLATES
from pilvi.providers.platform import Platform
from pilvi.providers.sizing import find_size
from pilvi.providers.status import write_status
from pilvi.runtime import Done, Result, is_deleting

__all__ = ["MachineTemplates", "plan_capacity"]


def plan_capacity(template: JsonObject) -> dict[str, str]:
    """`status.capacity` of a KubevirtMachineTemplate; empty when it does not say how large its machines are."""
    machine = (((template.get("spec") or {}).get("template") or {}).get("spec") or {}).get("virtualMachineTemplate") or {}
    instance = ((machine.get("spec") or {}).get("template") or {}).get("spec") or {}
    size = find_size(instance)
    return {} if size is None else {"cpu": str(size.vcpus), "memory": format_bytes(size.memory_bytes)}


class MachineTemplates:
    """The reconciler of KubevirtMachineTemplate."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client
        self._templates = platform.informers.get(MACHINE_TEMPLATES)

    async def reconcile(self, key: Key) -> Result:
        """One pass for the template `key`."""
        template = self._templates.get(key)
        if template is None or is_deleting(template):
            return Done()
        capacity = plan_capacity(template)
        if capacity:
            status = {**(template.get("status") or {}), "capacity": capacity}
            await write_status(self._client, MACHINE_TEMPLATES, template, status, subresource=False)
        return Done()
