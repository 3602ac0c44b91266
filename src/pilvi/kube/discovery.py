"""Which kinds an API server serves: maps `apiVersion` and `kind` of a manifest to a Resource."""

from __future__ import annotations

import msgspec

from pilvi.api import JsonObject, Resource
from pilvi.errors import NotFound, UserError
from pilvi.kube.client import Client

__all__ = ["Discovery"]


class Discovery:
    """Kinds by group version, asked once per group version and then remembered. `forget` when new kinds were installed."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, dict[str, Resource]] = {}

    async def list(self, api_version: str) -> list[Resource]:
        """All kinds of `group/version` (or `v1`); empty when it is not served. An empty answer is not remembered."""
        if api_version not in self._known:
            found = await self._ask(api_version)
            if not found:
                return []
            self._known[api_version] = found
        return list(self._known[api_version].values())

    async def find(self, api_version: str, kind: str) -> Resource | None:
        """The resource of a kind, or None when it is not served."""
        await self.list(api_version)
        return self._known.get(api_version, {}).get(kind)

    async def get(self, obj: JsonObject) -> Resource:
        """The resource of an object's kind. Raises UserError when the object names no kind or the server does not serve it."""
        api_version, kind = obj.get("apiVersion"), obj.get("kind")
        if not api_version or not kind:
            raise UserError("an object has no apiVersion or no kind", hint="every manifest starts with these two lines")
        resource = await self.find(api_version, kind)
        if resource is None:
            raise UserError(
                f"no kind {kind} in {api_version} is served here", hint=f"look at `kubectl api-resources --api-group={_group(api_version)}`"
            )
        return resource

    def forget(self, api_version: str | None = None) -> None:
        """Ask again next time, for one group version or for all."""
        if api_version is None:
            self._known.clear()
        else:
            self._known.pop(api_version, None)

    async def _ask(self, api_version: str) -> dict[str, Resource]:
        group, _, version = api_version.rpartition("/")
        try:
            body = await self._client.raw("GET", f"/apis/{api_version}" if group else f"/api/{api_version}")
        except NotFound:
            return {}
        return {
            entry["kind"]: Resource(group, version, entry["name"], entry["kind"], namespaced=entry["namespaced"])
            for entry in msgspec.json.decode(body)["resources"]
            if "/" not in entry["name"]  # subresources
        }


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]
