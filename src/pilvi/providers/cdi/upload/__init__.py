"""Uploads: tokens by way of the API, data by way of the upload proxy.

A token is for one claim and for minutes, so the proxy needs no idea of users: who may create UploadTokenRequests in a namespace may upload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilvi.api.cdi.upload import UPLOAD_GROUP
from pilvi.providers.aggregation import ApiGroup, Endpoint
from pilvi.providers.cdi.upload.reception import Reception
from pilvi.providers.cdi.upload.requests import TokenRequests
from pilvi.providers.cdi.upload.tokens import Tokens

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["Reception", "Tokens", "uploads"]

VERSIONS = ("v1beta1",)


def uploads(platform: Platform) -> tuple[ApiGroup, Reception]:
    """The API that gives tokens, and what takes uploads with them."""
    tokens = Tokens()
    create = TokenRequests(platform, tokens).create
    endpoint = Endpoint("POST", "uploadtokenrequests", create, of="namespace", kind="UploadTokenRequest")
    return ApiGroup(UPLOAD_GROUP, VERSIONS, (endpoint,)), Reception(platform, tokens)
