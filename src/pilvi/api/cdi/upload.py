"""UploadTokenRequest, which the engine answers and nobody stores, and where uploads go."""

from pilvi.api.field import Part

__all__ = ["UPLOAD_GROUP", "UPLOAD_PORT", "UploadTokenRequest", "UploadTokenRequestSpec"]

UPLOAD_GROUP = "upload.cdi.kubevirt.io"
UPLOAD_PORT = 9447
"""Port of the upload proxy, on the platform's address."""


class UploadTokenRequestSpec(Part):
    """Which claim is uploaded to."""

    pvc_name: str = ""


class UploadTokenRequest(Part):
    """Asks for a token to upload with."""

    spec: UploadTokenRequestSpec
