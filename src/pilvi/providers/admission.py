"""What providers have against an object before it is stored, judged by other objects and by facts of the cloud.

The engine's webhook asks (`engine/serve/admission.py`). Checks look at caches only, so they may miss what was written a moment ago, and
nobody asks them while the engine is dead: each is repeated by a reconciler, which calls the same pure function and writes a condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pilvi.api import JsonObject, Resource
from pilvi.errors import UserError, format_chain

__all__ = ["Check", "Objection"]


@dataclass(frozen=True)
class Objection:
    """What is wrong with an object: the field, why, and the next step.

    `refuses` is False for what another object may still mend, such as a name that nothing has yet: objects come in any order, so
    that is only a warning.
    """

    message: str
    refuses: bool = True


@dataclass(frozen=True)
class Check:
    """Checks objects of one kind. `find` gets an object as it would be stored and gives what stands against it.

    It must be quick and must not wait, and reads caches as they are. UserError, raised at any point, refuses.
    """

    resource: Resource
    find: Callable[[JsonObject], Iterable[Objection]]

    def objections(self, obj: JsonObject) -> list[Objection]:
        """What stands against `obj`, which may have no UID yet."""
        found: list[Objection] = []
        try:
            found.extend(self.find({**obj, "metadata": {"uid": "", **obj["metadata"]}}))
        except UserError as e:
            found.append(Objection(format_chain(e)))
        return found
