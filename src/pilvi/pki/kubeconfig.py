"""Kubeconfig documents, as JSON bytes (JSON is YAML, and every client reads it)."""

import base64
from pathlib import Path

import msgspec

from pilvi.pki.certificates import KeyPair


def kubeconfig_inline(server: str, ca_certificate: bytes, client: KeyPair, *, cluster: str, user: str, namespace: str = "default") -> bytes:
    """A kubeconfig that carries its certificates: for Secrets and for people. Context and cluster are named `cluster`."""
    return _document(
        server,
        cluster,
        user,
        {"certificate-authority-data": _base64(ca_certificate)},
        {"client-certificate-data": _base64(client.certificate), "client-key-data": _base64(client.key)},
        namespace,
    )


def kubeconfig_by_file(server: str, ca_certificate: Path, certificate: Path, key: Path, *, cluster: str, user: str) -> bytes:
    """A kubeconfig that names files: for components, whose client library reloads certificates from files only."""
    return _document(
        server,
        cluster,
        user,
        {"certificate-authority": str(ca_certificate)},
        {"client-certificate": str(certificate), "client-key": str(key)},
        "default",
    )


def _document(server: str, cluster: str, user: str, trust: dict[str, str], identity: dict[str, str], namespace: str) -> bytes:
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": cluster, "cluster": {"server": server, **trust}}],
                "users": [{"name": user, "user": identity}],
                "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user, "namespace": namespace}}],
                "current-context": cluster,
            }
        ),
        indent=1,
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
