"""Has the guest of a machine hold still while its volumes are copied.

Nothing is remembered here: whether a guest holds still is asked from it, so a snapshot that goes on after an engine's death never claims
what was not so. A guest that is found frozen by an engine that starts is thawed by it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pilvi.api import JsonObject
from pilvi.errors import PilviError, format_chain
from pilvi.providers.kubevirt.instance.backends import Backends
from pilvi.providers.kubevirt.machines.control import MachineControl
from pilvi.runtime import is_true

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilvi.providers.kubevirt.machines.backend import MachineBackend

__all__ = ["Guest", "Quiesce"]

log = logging.getLogger(__name__)

# The longest that a guest may be kept from writing, whatever the snapshot's deadline says. KubeVirt's.
LONGEST_S = 300.0


class Guest:
    """The guest of a machine that runs now. `agent` says whether it can hold still."""

    def __init__(self, vmi: JsonObject, control: MachineControl) -> None:
        self._uid: str = vmi["metadata"]["uid"]
        self._control = control
        self.paused = is_true(vmi, "Paused")
        self.agent = is_true(vmi, "AgentConnected") and not self.paused

    @property
    def indications(self) -> list[str]:
        """What a snapshot that is taken now has to say of it."""
        return ["Online", "Paused" if self.paused else "GuestAgent" if self.agent else "NoGuestAgent"]

    async def is_frozen(self) -> bool:
        """Whether it holds still. Raises PilviError when it does not say."""
        return bool(await self._control.agent(self._uid, "guest-fsfreeze-status") == "frozen")

    async def freeze(self, left_s: float | None) -> None:
        """Have it hold still, for the rest of the snapshot's time. Raises PilviError."""
        if not await self.is_frozen():
            await self._control.freeze(self._uid, LONGEST_S if left_s is None else min(LONGEST_S, max(1.0, left_s)))

    async def thaw(self) -> None:
        """Let it go on. One that does not answer is let go by its own deadline."""
        if not self.agent:
            return
        try:
            await self._control.thaw(self._uid)
        except PilviError as e:
            log.warning("the guest of machine %s is not thawed yet: %s", self._uid, format_chain(e))


class Quiesce:
    """Finds the guests of machines."""

    def __init__(self, backends: Mapping[str, MachineBackend]) -> None:
        self._backends = Backends(backends)

    def find(self, vmi: JsonObject | None) -> Guest | None:
        """The guest of an instance that runs; None when nothing runs."""
        if vmi is None or (vmi.get("status") or {}).get("phase") != "Running":
            return None
        backend = self._backends.find(vmi["metadata"]["uid"])
        return Guest(vmi, backend.control) if backend is not None else None
