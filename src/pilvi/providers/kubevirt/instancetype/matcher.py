"""What a VirtualMachine says of its instancetype and preference, in `spec` and in `status`. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.field import Part
from pilvi.api.instancetype import VirtualMachineInstancetypeSpec, VirtualMachinePreferenceSpec
from pilvi.providers.kubevirt.kinds import CLUSTER_INSTANCETYPES, CLUSTER_PREFERENCES, INSTANCETYPES, PREFERENCES

__all__ = ["INSTANCETYPE", "NOUNS", "PREFERENCE", "Matcher", "Noun", "find_matcher", "find_ref", "kept_refs", "revision_names"]


@dataclass(frozen=True)
class Noun:
    """One of the two things that a machine can name, with the words that belong to it."""

    word: str
    """Name of the matcher in `spec`."""
    namespaced: Resource
    cluster: Resource
    spec: type[Part]
    missing: str
    """KubeVirt's reason when it is not there."""

    @property
    def ref(self) -> str:
        """Name of what `status` says of it."""
        return f"{self.word}Ref"

    @property
    def label(self) -> str:
        """Label of a volume that names it; with `-kind` behind it, the label of its kind."""
        return f"instancetype.kubevirt.io/default-{self.word}"

    def annotation(self, resource: Resource) -> str:
        """KubeVirt's annotation on an instance: which one it was made with."""
        return f"kubevirt.io/{'' if resource.namespaced else 'cluster-'}{self.word}-name"


INSTANCETYPE = Noun("instancetype", INSTANCETYPES, CLUSTER_INSTANCETYPES, VirtualMachineInstancetypeSpec, "FailedFindInstancetype")
PREFERENCE = Noun("preference", PREFERENCES, CLUSTER_PREFERENCES, VirtualMachinePreferenceSpec, "FailedFindPreference")
NOUNS = (INSTANCETYPE, PREFERENCE)


@dataclass(frozen=True)
class Matcher:
    """One matcher. `name` is empty while it is to be found by the labels of `volume`; `ignores` failures to find it."""

    noun: Noun
    name: str
    kind: str
    revision: str
    volume: str
    ignores: bool

    @property
    def resource(self) -> Resource | None:
        """The kind that is meant: any case and plurals are fine, as in KubeVirt; None for an unknown one."""
        word = self.kind.lower().removesuffix("s")
        kinds = {"": self.noun.cluster, **{resource.kind.lower(): resource for resource in (self.noun.namespaced, self.noun.cluster)}}
        return kinds.get(word)

    def key(self, namespace: str) -> Key:
        """Where the object is, for a machine of `namespace`."""
        return Key(namespace if self.resource is not None and self.resource.namespaced else "", self.name)


def find_matcher(vm: JsonObject, noun: Noun) -> Matcher | None:
    """The machine's matcher, None when it has none."""
    given = (vm.get("spec") or {}).get(noun.word)
    if not given:
        return None
    return Matcher(
        noun,
        name=given.get("name") or "",
        kind=given.get("kind") or "",
        revision=given.get("revisionName") or "",
        volume=given.get("inferFromVolume") or "",
        ignores=given.get("inferFromVolumeFailurePolicy") == "Ignore",
    )


def find_ref(vm: JsonObject, matcher: Matcher) -> JsonObject | None:
    """What `status` says of this matcher; None while nothing was settled, or when the matcher has changed since."""
    ref = (vm.get("status") or {}).get(matcher.noun.ref)
    if not ref:
        return None
    settled = Matcher(matcher.noun, ref.get("name") or "", ref.get("kind") or "", "", "", ignores=False)
    if matcher.volume:
        ignored = "Ignore" if matcher.ignores else None
        same = ref.get("inferFromVolume") == matcher.volume and ref.get("inferFromVolumeFailurePolicy") == ignored
    else:
        same = not ref.get("inferFromVolume") and settled.name == matcher.name and settled.resource == matcher.resource
    revision = (ref.get("controllerRevisionRef") or {}).get("name")
    if matcher.revision and revision != matcher.revision:
        return None
    # One that was not found, and that may be missing, has neither.
    return ref if same and (revision or not settled.name) else None


def kept_refs(vm: JsonObject) -> JsonObject:
    """The parts of `status` that speak of matchers which the machine has."""
    status = vm.get("status") or {}
    return {noun.ref: status[noun.ref] for noun in NOUNS if (vm.get("spec") or {}).get(noun.word) and status.get(noun.ref)}


def revision_names(vm: JsonObject) -> list[str]:
    """The copies that the next instance of `vm` is made with."""
    return [name for ref in kept_refs(vm).values() if (name := (ref.get("controllerRevisionRef") or {}).get("name"))]
