"""What is said of a machine's instancetype and preference before it is stored.

From the objects as they are in the caches. What a volume or a ControllerRevision has to say is left to the controller, which repeats the
rest too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pilvi.api import JsonObject, Key, Resource
from pilvi.providers.admission import Objection
from pilvi.providers.kubevirt.instancetype.expand import Chosen, expand
from pilvi.providers.kubevirt.instancetype.matcher import NOUNS, find_matcher

__all__ = ["find_objections"]


def find_objections(vm: JsonObject, find: Callable[[Resource, Key], JsonObject | None]) -> Iterator[Objection]:
    """What stands against `vm`; `find` gives objects from caches. Raises UserError for what conflicts."""
    specs: dict[str, JsonObject | None] = {noun.word: None for noun in NOUNS}
    for noun in NOUNS:
        matcher = find_matcher(vm, noun)
        if matcher is None:
            continue
        if matcher.revision or not matcher.name or matcher.resource is None:  # a rule of the kind refuses unknown kinds
            return
        obj = find(matcher.resource, matcher.key(vm["metadata"].get("namespace") or ""))
        if obj is None:
            message = f"spec.{noun.word}: there is no {matcher.resource.kind} {matcher.name} yet; the machine starts once it is there"
            yield Objection(message, refuses=False)
            return
        specs[noun.word] = obj["spec"]
    expand((vm.get("spec") or {}).get("template") or {}, Chosen(specs["instancetype"], specs["preference"]))
