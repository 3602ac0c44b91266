"""Which backend has the machine of an instance now, and what its objects say of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pilvi.providers.kubevirt.machines.backend import MachineBackend

__all__ = ["Backends", "fidelity"]


class Backends:
    """All backends of the cloud, by name."""

    def __init__(self, backends: Mapping[str, MachineBackend]) -> None:
        self._backends = backends

    def __getitem__(self, name: str) -> MachineBackend:
        return self._backends[name]

    def __contains__(self, name: str) -> bool:
        return name in self._backends

    def __iter__(self) -> Iterator[MachineBackend]:
        return iter(self._backends.values())

    def find(self, uid: str) -> MachineBackend | None:
        """The backend that runs the machine now, or None."""
        return next((backend for backend in self if backend.state(uid).phase != "absent"), None)

    async def stop(self, uid: str, grace_s: float) -> None:
        """As `MachineBackend.stop`, whichever backend has it."""
        for backend in self:
            await backend.stop(uid, grace_s)

    async def remove(self, uid: str) -> None:
        """As `MachineBackend.remove`. All must have been stopped before, since they share the machine's folder."""
        for backend in self:
            await backend.remove(uid)

    async def list_uids(self) -> list[str]:
        """UIDs of all machines of which anything is left."""
        return sorted({uid for backend in self for uid in await backend.list_uids()})


def fidelity(backend: MachineBackend) -> tuple[str, str] | None:
    """How real the machine is, or will be: known as soon as its backend is chosen and knows its host, None before that."""
    return (backend.fidelity, backend.fidelity_message) if backend.fidelity else None
