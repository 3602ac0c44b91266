"""For whom the persistent state of an instance's firmware and TPM is kept."""

from __future__ import annotations

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError
from pilvi.providers.kubevirt.kinds import MACHINES
from pilvi.runtime.owners import controller_key, is_controlled_by

__all__ = ["find_keeper", "is_persistent"]


def is_persistent(spec: JsonObject) -> bool:
    """Whether a VirtualMachineInstanceSpec asks for state that outlives the instance."""
    domain = spec.get("domain") or {}
    efi = ((domain.get("firmware") or {}).get("bootloader") or {}).get("efi") or {}
    tpm = (domain.get("devices") or {}).get("tpm") or {}
    return bool(efi.get("persistent")) or (bool(tpm.get("persistent")) and tpm.get("enabled") is not False)


def find_keeper(vmi: JsonObject, vm: JsonObject | None) -> str:
    """The UID of the VirtualMachine that keeps it; empty when nothing is to be kept, or the instance has none. Pure.

    `vm` is the VirtualMachine of the instance's name, if there is one. Only that counts, since anybody may write a reference to another
    one's. Raises UserError when the one that the instance belongs to is not there: its state would be lost without a word.
    """
    if not is_persistent(vmi["spec"]) or controller_key(vmi, MACHINES) is None:
        return ""
    if vm is None or not is_controlled_by(vmi, vm):
        raise UserError(
            "the VirtualMachine that keeps the instance's persistent state is not there",
            hint="delete the instance and make the machine anew",
        )
    return str(vm["metadata"]["uid"])
