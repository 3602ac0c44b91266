"""Virtual machines as the commands see them: read from the API, put into words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pilvi.api import JsonObject, Key
from pilvi.api.kubevirt import VirtualMachine, VirtualMachineInstance
from pilvi.errors import UserError

if TYPE_CHECKING:
    from pilvi.kube import Client

__all__ = ["GROUP_PATH", "INSTANCES", "MACHINES", "MachineRow", "address_of", "get_machine", "row_of", "subresource_path"]

MACHINES = VirtualMachine.RESOURCE
INSTANCES = VirtualMachineInstance.RESOURCE
GROUP_PATH = "/apis/subresources.kubevirt.io/v1"


class MachineRow(msgspec.Struct, frozen=True):
    """One line of `pilvi vm list`."""

    namespace: str
    name: str
    status: str
    ready: bool
    address: str
    node: str


def row_of(vm: JsonObject, vmi: JsonObject | None) -> MachineRow:
    """What a table says of the machine, whose instance is `vmi`. Pure."""
    status = vm.get("status") or {}
    return MachineRow(
        vm["metadata"]["namespace"],
        vm["metadata"]["name"],
        status.get("printableStatus") or "Unknown",
        bool(status.get("ready")),
        address_of(vmi),
        ((vmi or {}).get("status") or {}).get("nodeName") or "",
    )


def address_of(vmi: JsonObject | None) -> str:
    """The instance's first address; empty while it has none."""
    interfaces = ((vmi or {}).get("status") or {}).get("interfaces") or [{}]
    return interfaces[0].get("ipAddress") or ""


async def get_machine(client: Client, key: Key) -> JsonObject:
    """The VirtualMachine. Raises UserError when there is none."""
    vm = await client.find(MACHINES, key)
    if vm is None:
        raise UserError(f"there is no virtual machine {key}", hint="pilvi vm list")
    return vm


def subresource_path(resource: str, key: Key, subresource: str) -> str:
    """Where a subresource of a machine or instance is served."""
    return f"{GROUP_PATH}/namespaces/{key.namespace}/{resource}/{key.name}/{subresource}"
