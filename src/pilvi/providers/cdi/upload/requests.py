"""UploadTokenRequests: RBAC has let the caller through; what is left is whether the claim takes an upload."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from pilvi.api import JsonObject, Key
from pilvi.api.cdi.upload import UploadTokenRequest
from pilvi.errors import BadRequest, Conflict, NotFound
from pilvi.providers.aggregation import refusal
from pilvi.providers.cdi.kinds import CLAIMS, READY
from pilvi.providers.cdi.upload.tokens import Grant, Tokens
from pilvi.providers.claims import annotations_of, is_populated

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["TokenRequests"]


class TokenRequests:
    """Answers what is posted to uploadtokenrequests."""

    def __init__(self, platform: Platform, tokens: Tokens) -> None:
        self._claims = platform.informers.get(CLAIMS)
        self._tokens = tokens

    async def create(self, request: web.Request) -> web.Response:
        """The request with a token in its status. Raises BadRequest, NotFound, and Conflict for a claim that takes no upload now."""
        try:
            body: JsonObject = msgspec.json.decode(await request.read(), type=dict)
            name = msgspec.convert(body, UploadTokenRequest).spec.pvc_name
        except (msgspec.DecodeError, msgspec.ValidationError) as e:
            raise refusal(BadRequest, f"the body is no UploadTokenRequest: {e}") from e
        namespace = request.match_info["namespace"]
        claim = self._claims.get(Key(namespace, name))
        if claim is None:
            raise refusal(NotFound, f'persistentvolumeclaims "{name}" not found', resource="persistentvolumeclaims", name=name)
        if is_populated(claim) or annotations_of(claim).get(READY) != "true":
            message = f"claim {name} waits for no upload now; it does while its DataVolume, of source upload, is UploadReady"
            raise refusal(Conflict, message, resource="persistentvolumeclaims", name=name)
        token = self._tokens.issue(Grant(Key.of(claim), claim["metadata"]["uid"]))
        metadata = {"creationTimestamp": None, **(body.get("metadata") or {}), "namespace": namespace}
        answer = {"apiVersion": "upload.cdi.kubevirt.io/v1beta1", "kind": "UploadTokenRequest", **body}
        answer |= {"metadata": metadata, "status": {"token": token}}
        return web.Response(status=201, body=msgspec.json.encode(answer), content_type="application/json")
