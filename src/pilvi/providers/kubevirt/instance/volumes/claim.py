"""Which claim a volume of an instance names. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pilvi.api.resource import JsonObject

__all__ = ["NamedClaim", "find_claim", "is_only_read"]


@dataclass(frozen=True)
class NamedClaim:
    """A claim by its name. With `ephemeral` it is only read, and what is written goes with the machine.

    `hotpluggable`: its disk can come and go while the machine runs. `dump`: it is no disk of the machine, which writes its memory to it.
    """

    name: str
    read_only: bool = False
    ephemeral: bool = False
    hotpluggable: bool = False
    dump: bool = False


def find_claim(volume: JsonObject) -> NamedClaim | None:
    """The claim behind a volume of the specification; None for volumes of other kinds. A DataVolume's claim has its name."""
    if source := volume.get("persistentVolumeClaim"):
        return NamedClaim(source["claimName"], read_only=bool(source.get("readOnly")), hotpluggable=bool(source.get("hotpluggable")))
    if source := volume.get("dataVolume"):
        return NamedClaim(source["name"], hotpluggable=bool(source.get("hotpluggable")))
    if source := (volume.get("ephemeral") or {}).get("persistentVolumeClaim"):
        return NamedClaim(source["claimName"], read_only=True, ephemeral=True)
    if source := volume.get("memoryDump"):
        return NamedClaim(source["claimName"], hotpluggable=True, dump=True)
    return None


def is_only_read(claim: JsonObject) -> bool:
    """Whether machines may only read the claim, whatever their volumes say."""
    return (claim.get("spec") or {}).get("accessModes") == ["ReadOnlyMany"]
