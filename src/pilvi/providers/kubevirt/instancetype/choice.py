"""From the names in a VirtualMachine to the specifications that hold for it, and the copies that it keeps of them.

A machine is settled once: the name is found where a volume says it, the object is copied into a ControllerRevision, and the machine's
status says so before the first instance is made. From then on only the copy counts, until the matcher changes or `status` is cleared.
A volume's word goes to `status` too and `spec` stays as it was written, so the same manifest can be applied again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilvi.api import JsonObject, Key, Resource
from pilvi.api.builtin import CONTROLLER_REVISIONS
from pilvi.errors import AlreadyExists, Forbidden, Invalid, UserError, format_chain
from pilvi.providers.kubevirt.instancetype.expand import Chosen, expand
from pilvi.providers.kubevirt.instancetype.infer import NotInferred, infer
from pilvi.providers.kubevirt.instancetype.matcher import INSTANCETYPE, NOUNS, Matcher, find_matcher, find_ref
from pilvi.providers.kubevirt.instancetype.revision import get_spec, new_revision
from pilvi.providers.kubevirt.kinds import MACHINES
from pilvi.providers.status import write_status

if TYPE_CHECKING:
    from pilvi.kube import Client

__all__ = ["Choices", "Unsettled"]

CONFLICT = "FailedCreate"
_REMEMBERED = 256
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


class Unsettled(UserError):  # noqa: N818 (a state, no error)
    """A machine's instancetype or preference does not hold; `reason` is the condition's."""

    def __init__(self, reason: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


@dataclass(frozen=True)
class _Found:
    """What a matcher leads to: the object as it is now, or the copy of it. `name` is empty where none is needed."""

    name: str = ""
    kind: str = ""
    obj: JsonObject | None = None
    revision: JsonObject | None = None


class Choices:
    """Reads from the API itself: instancetypes are looked at once for each machine, and were often written a moment ago.

    Copies never change, so the last ones are remembered.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._revisions: dict[Key, JsonObject] = {}

    async def settle(self, vm: JsonObject) -> JsonObject:
        """Make sure that `vm` has a copy of what it names, and that its status says which; returns the machine as stored.

        Raises Unsettled, Conflict when the machine has changed, and what every request may raise. May be called repeatedly: a copy that
        was stored before the engine ended is found again.
        """
        refs = {}
        for noun in NOUNS:
            matcher = find_matcher(vm, noun)
            if matcher is not None:
                refs[noun.ref] = find_ref(vm, matcher) or await self._new_ref(vm, matcher)
        old = vm.get("status") or {}
        others = {name: value for name, value in old.items() if name not in {noun.ref for noun in NOUNS}}
        return await write_status(self._client, MACHINES, vm, {**others, **refs})

    async def expand(self, vm: JsonObject) -> JsonObject:
        """The template of `vm` with both put in; works for a machine that is not settled too. Raises Unsettled."""
        return self._expand(vm, await self._choose(vm))

    async def expand_machine(self, vm: JsonObject) -> JsonObject:
        """`vm` as it would be written without an instancetype and a preference, `vm` itself when it has neither. Raises Unsettled."""
        if not any(find_matcher(vm, noun) for noun in NOUNS):
            return vm
        dropped = {noun.word for noun in NOUNS}
        spec = {name: value for name, value in vm["spec"].items() if name not in dropped} | {"template": await self.expand(vm)}
        expanded = {**vm, "spec": spec}
        if vm.get("status"):
            refs = {noun.ref for noun in NOUNS}
            expanded["status"] = {name: value for name, value in vm["status"].items() if name not in refs}
        return expanded

    def _expand(self, vm: JsonObject, chosen: Chosen) -> JsonObject:
        try:
            return expand(vm["spec"].get("template") or {}, chosen)
        except UserError as e:
            raise Unsettled(CONFLICT, str(e), hint=e.hint) from None

    async def _choose(self, vm: JsonObject) -> Chosen:
        specs: dict[str, JsonObject | None] = {}
        annotations: list[tuple[str, str]] = []
        for noun in NOUNS:
            matcher = find_matcher(vm, noun)
            found = _Found() if matcher is None else await self._find(vm, matcher)
            if matcher is None or not found.name:
                specs[noun.word] = None
                continue
            specs[noun.word] = _spec_of(found, matcher)
            resource = _named(matcher, found).resource
            if resource is not None:
                annotations.append((noun.annotation(resource), found.name))
        size = find_matcher(vm, INSTANCETYPE)
        replaces = size is not None and bool(size.volume) and size.ignores
        return Chosen(specs["instancetype"], specs["preference"], tuple(annotations), replaces_memory=replaces)

    async def _new_ref(self, vm: JsonObject, matcher: Matcher) -> JsonObject:
        found = await self._find(vm, matcher)
        ref: JsonObject = {}
        if matcher.volume:
            ref["inferFromVolume"] = matcher.volume
            if matcher.ignores:
                ref["inferFromVolumeFailurePolicy"] = "Ignore"
        if not found.name:
            return ref
        if found.obj is not None and matcher.noun is INSTANCETYPE:
            # An instancetype that conflicts is not copied, so that it can still be mended.
            replaces = bool(matcher.volume) and matcher.ignores
            self._expand(vm, Chosen(found.obj["spec"], replaces_memory=replaces))
        revision = found.revision or await self._store(vm, matcher, found.obj or {})
        return {**ref, "name": found.name, "kind": found.kind, "controllerRevisionRef": {"name": revision["metadata"]["name"]}}

    async def _find(self, vm: JsonObject, matcher: Matcher) -> _Found:
        namespace = vm["metadata"]["namespace"]
        ref = find_ref(vm, matcher)
        if ref is not None and not ref.get("name"):
            return _Found()
        if ref is not None:
            name = ref["controllerRevisionRef"]["name"]
            return _Found(ref["name"], ref.get("kind") or "", revision=await self._get_revision(Key(namespace, name), matcher))
        if matcher.revision:
            revision = await self._get_revision(Key(namespace, matcher.revision), matcher)
            return _Found(matcher.name, (matcher.resource or matcher.noun.cluster).kind, revision=revision)
        if matcher.volume:
            try:
                name, kind = await infer(vm, matcher.noun, matcher.volume, self._read)
            except NotInferred as e:
                if matcher.ignores and e.may_be_ignored:
                    return _Found()
                raise Unsettled(matcher.noun.missing, str(e), hint=e.hint) from None
            return await self._find_object(namespace, Matcher(matcher.noun, name, kind, "", "", ignores=False))
        return await self._find_object(namespace, matcher)

    async def _find_object(self, namespace: str, matcher: Matcher) -> _Found:
        noun, resource = matcher.noun, matcher.resource
        if resource is None:
            raise Unsettled(noun.missing, f"got unexpected kind in {noun.word} matcher: {matcher.kind}")
        obj = await self._read(resource, matcher.key(namespace))
        if obj is None:
            command = f"kubectl get {resource.plural}" + (f" -n {namespace}" if resource.namespaced else "")
            raise Unsettled(
                noun.missing,
                f'{resource.plural}.{resource.group} "{matcher.name}" not found',
                hint=f"{command} lists those that there are; the machine goes on once it is there",
            )
        return _Found(matcher.name, resource.kind, obj=obj)

    async def _read(self, resource: Resource, key: Key) -> JsonObject | None:
        """The object, None when there is none. A name that no object can have, which users write, must not lead the request elsewhere."""
        if not all(_NAME.fullmatch(word) for word in key if word):
            return None
        return await self._client.find(resource, key)

    async def _get_revision(self, key: Key, matcher: Matcher) -> JsonObject:
        if key in self._revisions:
            return self._revisions[key]
        revision = await self._read(CONTROLLER_REVISIONS, key)
        if revision is None:
            raise Unsettled(
                matcher.noun.missing,
                f'controllerrevisions.apps "{key.name}" not found',
                hint=f"correct spec.{matcher.noun.word}.revisionName, or clear status.{matcher.noun.ref} to take the"
                f" {matcher.noun.word} as it is now",
            )
        if len(self._revisions) == _REMEMBERED:
            del self._revisions[next(iter(self._revisions))]
        self._revisions[key] = revision
        return revision

    async def _store(self, vm: JsonObject, matcher: Matcher, obj: JsonObject) -> JsonObject:
        revision = new_revision(vm, obj)
        try:
            return await self._client.create(CONTROLLER_REVISIONS, revision)
        except AlreadyExists:  # of an earlier pass, whose status was not written
            stored = await self._client.get(CONTROLLER_REVISIONS, Key.of(revision))
        except (Forbidden, Invalid) as e:
            raise Unsettled(
                CONFLICT, f"the copy of {matcher.noun.word} {obj['metadata']['name']} cannot be stored: {format_chain(e)}"
            ) from None
        if _canonical(get_spec(stored, matcher.noun)) != _canonical(obj["spec"]):
            name = revision["metadata"]["name"]
            raise Unsettled(CONFLICT, f"found existing ControllerRevision with unexpected data: {name}", hint="delete it")
        return stored


def _spec_of(found: _Found, matcher: Matcher) -> JsonObject:
    if found.revision is None:
        spec: JsonObject = (found.obj or {})["spec"]
        return spec
    try:
        return get_spec(found.revision, matcher.noun)
    except UserError as e:
        raise Unsettled(matcher.noun.missing, str(e), hint=e.hint) from None


def _named(matcher: Matcher, found: _Found) -> Matcher:
    return Matcher(matcher.noun, found.name, found.kind, "", "", ignores=False)


def _canonical(spec: JsonObject) -> str:
    return json.dumps(spec, sort_keys=True)
