"""Whose token a machine has. Pure."""

from __future__ import annotations

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError

__all__ = ["find_service_account"]


def find_service_account(spec: JsonObject) -> str | None:
    """The ServiceAccount that a volume of the instance names; None when none does. Its Pod is of that account too.

    Raises UserError for two, since a Pod has one.
    """
    named = [volume["serviceAccount"].get("serviceAccountName") for volume in spec.get("volumes") or [] if volume.get("serviceAccount")]
    if len(named) > 1:
        raise UserError("spec.volumes has more than one serviceAccount", hint="keep one; a Secret holds the token of another")
    if named and not named[0]:
        raise UserError("a serviceAccount of spec.volumes names none", hint="write serviceAccountName: default")
    return named[0] if named else None
