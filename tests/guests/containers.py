"""Container images as OCI image layouts, as they are pushed to registries: one layer, files of the uid that KubeVirt gives them."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

from tests.guests.guest import REFERENCE

_OCI = "application/vnd.oci.image"
_QEMU_UID = 107


def write_layout(folder: Path, files: dict[str, Path]) -> None:
    """Write a layout with one image that holds `files` (path inside it -> source). The same bytes for the same files."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    plain = _layer(files)
    layer = _write(blobs, f"{_OCI}.layer.v1.tar+gzip", gzip.compress(plain, compresslevel=1, mtime=0))
    diff = f"sha256:{hashlib.sha256(plain).hexdigest()}"
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": _write(blobs, f"{_OCI}.config.v1+json", _json(config)),
        "layers": [layer],
    }
    described = _write(blobs, f"{_OCI}.manifest.v1+json", _json(manifest))
    tag = {"org.opencontainers.image.ref.name": REFERENCE.partition(":")[2]}
    index = {"schemaVersion": 2, "mediaType": f"{_OCI}.index.v1+json", "manifests": [{**described, "annotations": tag}]}
    (folder / "index.json").write_bytes(_json(index))
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))


def _layer(files: dict[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted({str(parent) for path in files for parent in Path(path).parents if str(parent) != "."}):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o555
            tar.addfile(info)
        for name, source in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid, info.gid = source.stat().st_size, 0o440, _QEMU_UID, _QEMU_UID
            with source.open("rb") as file:
                tar.addfile(info, file)
    return buffer.getvalue()


def _write(blobs: Path, media_type: str, data: bytes) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
