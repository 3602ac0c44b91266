"""A kind as a whole: where it lives, how it is listed, and the way between JSON objects and structs.

Objects travel as plain dicts; a controller decodes the ones it reads (`decode`) and mostly writes dicts of exactly the fields it owns.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import msgspec

from pilvi.api.core import ObjectMeta
from pilvi.api.field import Part
from pilvi.api.resource import Resource

__all__ = ["Column", "Definition", "Object", "Rule", "Scale", "decode", "encode"]


class Column(msgspec.Struct, frozen=True):
    """One column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False


class Scale(msgspec.Struct, frozen=True):
    """Where `kubectl scale` and autoscalers find the replicas."""

    spec: str
    status: str
    selector: str


class Rule(msgspec.Struct, frozen=True):
    """A refusal that one object decides, in CEL over `object`, `oldObject` (null on creation), `request` and the kind's variables.

    `holds` must be true; `message` is a CEL string literal or expression. Objects that are being deleted, changes that leave the spec as
    it was and Cluster API's topology dry runs are exempt.
    """

    holds: str
    message: str


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """What the custom resource definition and the policies of a kind say beside the schema.

    `singular` is the word for one, where it is not the kind in lower case. `also_served` are further versions with the same schema.
    `version_path` is the field with a Kubernetes version, if there is one: it must be a version of the kit, and change upwards by one minor
    at most. `variables` are CEL expressions for the rules.
    `approved` is where Kubernetes has reviewed the kind: its API server asks for that in groups of its own (*.k8s.io).
    """

    short_names: tuple[str, ...] = ()
    singular: str = ""
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    also_served: tuple[str, ...] = ()
    status: bool = True
    scale: Scale | None = None
    version_path: str = ""
    variables: Mapping[str, str] = {}
    rules: tuple[Rule, ...] = ()
    approved: str = ""


class Object(Part, kw_only=True):
    """Base of every kind."""

    RESOURCE: ClassVar[Resource]
    DEFINITION: ClassVar[Definition] = Definition()

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)


K = TypeVar("K", bound=Object)


def decode(kind: type[K], obj: Mapping[str, Any]) -> K:
    """The struct of a JSON object. Unknown fields are ignored. Raises `msgspec.ValidationError` naming the path that has another type."""
    return msgspec.convert(obj, kind)


def encode(obj: Object) -> dict[str, Any]:
    """The JSON object of a struct, with apiVersion and kind; fields that hold their default are left out."""
    return {"apiVersion": obj.RESOURCE.api_version, "kind": obj.RESOURCE.kind, **msgspec.to_builtins(obj)}
