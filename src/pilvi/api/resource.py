"""Where a kind lives in the API, and how one object of it is named.

Objects themselves are plain dicts (`JsonObject`) on the wire and in caches. Everything that reads or writes the API says which
kind it means with a `Resource` and which object with a `Key`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

__all__ = ["JsonObject", "Key", "Resource"]

JsonObject: TypeAlias = dict[str, Any]


class Key(NamedTuple):
    """Names one object of a known kind. `namespace` is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    @classmethod
    def of(cls, obj: JsonObject) -> Key:
        """The key of `obj`. Raises KeyError when it has no `metadata.name`."""
        metadata = obj["metadata"]
        return cls(metadata.get("namespace") or "", metadata["name"])

    @classmethod
    def parse(cls, text: str, default_namespace: str = "") -> Key:
        """`NAMESPACE/NAME` or `NAME` as a key."""
        namespace, slash, name = text.rpartition("/")
        return cls(namespace if slash else default_namespace, name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind in one version: `Resource("apps", "v1", "deployments", "Deployment")`. The core group is the empty string."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As in `apiVersion`: `v1`, `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None) -> str:
        """URL path of the collection; without a namespace that of all namespaces."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if self.namespaced and namespace:
            return f"{root}/namespaces/{_segment(namespace)}/{self.plural}"
        return f"{root}/{self.plural}"

    def object_path(self, key: Key, subresource: str | None = None) -> str:
        """URL path of one object, or of its subresource."""
        path = f"{self.path(key.namespace)}/{_segment(key.name)}"
        return f"{path}/{subresource}" if subresource else path

    def new(self, key: Key, **fields: Any) -> JsonObject:
        """An object of this kind with `apiVersion`, `kind` and `metadata` filled in, then `fields` (`spec=…`) on top."""
        metadata: JsonObject = {"name": key.name}
        if self.namespaced and key.namespace:
            metadata["namespace"] = key.namespace
        extra = fields.pop("metadata", None)
        if extra:
            metadata = {**extra, **metadata}
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata, **fields}

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


def _segment(name: str) -> str:
    """A name as one segment of a path, whatever it is: names that users have written must not lead to another object."""
    # Clients resolve dots, encoded ones too; encoded twice they are a name that nothing has.
    return quote(name, safe=":") if name.strip(".") else name.replace(".", "%252E")
