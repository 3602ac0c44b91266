"""Where the data of a disk comes from. Shared by DataVolume and the populators' kinds."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated

from pilvi.api.core import Empty
from pilvi.api.field import Part, accepted, implemented, rejected, shape

__all__ = ["CdiCondition", "DataVolumeSource", "HttpSource", "ImportSource", "NamedSource", "RegistrySource"]

NO_CLIENT = "there is no client for it here, and the disk would stay empty"
OVER_HTTP = "http with a URL of the same image"


class HttpSource(Part):
    url: Annotated[str, implemented("Address of the image, http or https.")]
    cert_config_map: Annotated[str | None, implemented("ConfigMap whose values are certificate authorities to trust, in PEM.")] = None
    checksum: Annotated[str | None, implemented("Digest of what the server sends: md5, sha1, sha256 or sha512, a colon, hex digits.")] = (
        None
    )
    extra_headers: Annotated[list[str], implemented("Headers of each request, as `Name: value`.")] = []
    insecure_skip_verify: Annotated[bool | None, implemented("Take any certificate; give a checksum then.")] = None
    secret_extra_headers: Annotated[list[str], implemented("Secrets whose values are headers.")] = []
    secret_ref: Annotated[str | None, implemented("Secret with accessKeyId and secretKey: user name and password.")] = None


class GcsSource(Part):
    url: str
    secret_ref: str | None = None


class S3Source(Part):
    url: str
    cert_config_map: str | None = None
    secret_ref: str | None = None


class ImageioSource(Part):
    disk_id: str
    url: str
    cert_config_map: str | None = None
    insecure_skip_verify: bool | None = None
    secret_ref: str | None = None


class VddkSource(Part):
    backing_file: str | None = None
    cert_config_map: str | None = None
    extra_args: str | None = None
    init_image_url: str | None = None
    secret_ref: str | None = None
    thumbprint: str | None = None
    url: str | None = None
    uuid: str | None = None


class Platform(Part):
    architecture: str | None = None


class RegistrySource(Part):
    cert_config_map: Annotated[str | None, implemented("ConfigMap whose values are certificate authorities to trust, in PEM.")] = None
    image_stream: Annotated[str | None, rejected("OpenShift's ImageStream.", "there are none here", "url: docker://...")] = None
    platform: Annotated[Platform | None, accepted("Which image of a list.", "the one for the host's own processor is taken")] = None
    pull_method: Annotated[str | None, implemented("pod or node; both are the same here, the cloud's own store pulls.")] = None
    secret_ref: Annotated[str | None, implemented("Secret with accessKeyId and secretKey: user name and password.")] = None
    url: Annotated[str | None, implemented("Container disk, as docker://registry/name:tag.")] = None


class NamedSource(Part):
    name: Annotated[str, implemented("Its name.")]
    namespace: Annotated[str, implemented("Its namespace; another than the own one needs the right to create datavolumes/source in there.")]


class ImportSource(Part):
    blank: Annotated[Empty | None, implemented("An empty disk.")] = None
    gcs: Annotated[GcsSource | None, rejected("Google's object store.", NO_CLIENT, OVER_HTTP)] = None
    http: Annotated[HttpSource | None, implemented("An image from a web server.")] = None
    imageio: Annotated[ImageioSource | None, rejected("A disk of oVirt.", NO_CLIENT, OVER_HTTP)] = None
    registry: Annotated[RegistrySource | None, implemented("A container disk from an image registry.")] = None
    s3: Annotated[S3Source | None, rejected("An S3 store.", NO_CLIENT, "http with a presigned URL of the same image")] = None
    vddk: Annotated[VddkSource | None, rejected("A disk of VMware.", NO_CLIENT, OVER_HTTP)] = None


class DataVolumeSource(ImportSource):
    pvc: Annotated[NamedSource | None, implemented("A copy of another claim.")] = None
    snapshot: Annotated[NamedSource | None, implemented("A copy of a VolumeSnapshot.")] = None
    upload: Annotated[Empty | None, implemented("What a client sends, for example virtctl image-upload.")] = None


class CdiCondition(Part):
    """A condition as CDI has it."""

    status: str
    type: str
    last_heartbeat_time: Annotated[str | None, shape(format="date-time")] = None
    last_transition_time: Annotated[str | None, shape(format="date-time")] = None
    message: str | None = None
    reason: str | None = None
