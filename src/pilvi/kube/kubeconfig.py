"""Reads kubeconfigs: which server, which certificate authority, which credentials.

Components get kubeconfigs that name files, people's hold inline data; both work. Credentials are read again from their files
when a server says Unauthorized, so a renewed certificate or token needs no restart.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilvi.api import JsonObject
from pilvi.errors import UserError

__all__ = ["Kubeconfig", "load_kubeconfig", "parse_kubeconfig"]


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """One context of a kubeconfig, resolved. PEM fields hold either a file or its content, never both; secrets stay out of repr."""

    server: str
    ca: Path | bytes | None = None
    client_cert: Path | bytes | None = None
    client_key: Path | bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    tls_server_name: str | None = None
    insecure: bool = False
    namespace: str = "default"

    def find_token(self) -> str | None:
        """The bearer token, read from its file if it has one; None without. Raises UserError when the file cannot be read."""
        if self.token_file is not None:
            return _read(self.token_file, "token file").decode().strip()
        return self.token

    def ssl_context(self) -> ssl.SSLContext | None:
        """A client TLS context with CA and client certificate, None for plain http. Raises UserError for unusable PEM data.

        The system's certificates are loaded only when the kubeconfig names no authority: loading them costs 10 ms and 1 MB.
        """
        if not self.server.startswith("https:"):
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.insecure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            elif self.ca is not None:
                context.load_verify_locations(cadata=_pem(self.ca, "certificate authority").decode("ascii"))
            else:
                context.load_default_certs()
            if self.client_cert is not None and self.client_key is not None:
                _load_client_certificate(context, _pem(self.client_cert, "client certificate"), _pem(self.client_key, "client key"))
        except (ssl.SSLError, UnicodeDecodeError) as e:
            raise UserError(f"the kubeconfig for {self.server} holds an unusable certificate or key") from e
        return context


def load_kubeconfig(path: Path, context: str | None = None) -> Kubeconfig:
    """Read the kubeconfig at `path` and resolve `context` (default: its current one). Relative file names count from its folder.

    Raises UserError when the file, the context or what it names is missing or malformed.
    """
    import yaml  # noqa: PLC0415 (20 ms; tenant clients are opened from data that is parsed already)

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data = yaml.load(_read(path, "kubeconfig"), Loader=loader)  # noqa: S506 (both loaders are the safe ones)
    except yaml.YAMLError as e:
        raise UserError(f"kubeconfig {path} is not YAML") from e
    return parse_kubeconfig(data, context=context, base=path.parent, name=str(path))


def parse_kubeconfig(data: Any, *, context: str | None = None, base: Path = Path(), name: str = "kubeconfig") -> Kubeconfig:
    """As `load_kubeconfig`, for decoded content (of a Secret, say). `name` is what errors call it."""
    if not isinstance(data, dict):
        raise UserError(f"{name} holds no kubeconfig")
    wanted = context or data.get("current-context")
    if not wanted:
        raise UserError(f"{name} has no current context", hint="set one with `kubectl config use-context NAME`")
    chosen = _entry(data, "contexts", "context", wanted, name)
    cluster = _entry(data, "clusters", "cluster", chosen.get("cluster"), name)
    user = _entry(data, "users", "user", chosen["user"], name) if chosen.get("user") else {}
    if not cluster.get("server"):
        raise UserError(f"cluster {chosen.get('cluster')!r} in {name} has no server")
    if user.get("exec") or user.get("auth-provider"):
        raise UserError(
            f"user {chosen['user']!r} in {name} gets its credentials from a plug-in, which pilvi does not run",
            hint="use a kubeconfig with a client certificate or a token",
        )
    token_file = user.get("tokenFile")
    return Kubeconfig(
        server=cluster["server"].rstrip("/"),
        ca=_pem_source(cluster, "certificate-authority", base, name),
        client_cert=_pem_source(user, "client-certificate", base, name),
        client_key=_pem_source(user, "client-key", base, name),
        token=user.get("token"),
        token_file=base / token_file if token_file else None,
        tls_server_name=cluster.get("tls-server-name"),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        namespace=chosen.get("namespace") or "default",
    )


def _entry(data: JsonObject, section: str, field_name: str, wanted: Any, name: str) -> JsonObject:
    for entry in data.get(section) or []:
        if entry.get("name") == wanted:
            return dict(entry.get(field_name) or {})
    raise UserError(f"{name} has no {field_name} named {wanted!r}")


def _pem_source(entry: JsonObject, key: str, base: Path, name: str) -> Path | bytes | None:
    # client-go: inline data wins over the file.
    if inline := entry.get(f"{key}-data"):
        try:
            return base64.b64decode(inline, validate=True)
        except (binascii.Error, ValueError) as e:
            raise UserError(f"{key}-data in {name} is not base64") from e
    return base / entry[key] if entry.get(key) else None


def _pem(source: Path | bytes, what: str) -> bytes:
    return source if isinstance(source, bytes) else _read(source, what)


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise UserError(f"cannot read {what} {path}: {e.strerror}") from e


def _load_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    # The ssl module takes files only. An anonymous memory file keeps the key off every disk.
    fd = os.memfd_create("client-certificate")
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(certificate + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
