from __future__ import annotations

import base64
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pilvi.errors import UserError
from pilvi.kube import load_kubeconfig, parse_kubeconfig


@pytest.fixture(scope="module")
def pair() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    certificate = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), key_pem


def config(cluster: dict[str, Any], user: dict[str, Any], **context: str) -> dict[str, Any]:
    return {
        "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u", **context}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }


def test_files_count_from_the_kubeconfigs_folder(tmp_path: Path, pair: tuple[bytes, bytes]) -> None:
    (tmp_path / "ca.crt").write_bytes(pair[0])
    (tmp_path / "a.key").write_bytes(pair[1])
    (tmp_path / "token").write_text("first\n")
    path = tmp_path / "kubeconfig"
    user = {"client-certificate": "ca.crt", "client-key": str(tmp_path / "a.key"), "tokenFile": "token"}
    path.write_text(yaml.safe_dump(config({"certificate-authority": "ca.crt"}, user, namespace="blue")))
    loaded = load_kubeconfig(path)
    assert (loaded.server, loaded.namespace, loaded.ca) == ("https://10.0.0.1:6443", "blue", tmp_path / "ca.crt")
    context = loaded.ssl_context()
    assert context is not None
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert loaded.find_token() == "first"
    (tmp_path / "token").write_text("second")
    assert loaded.find_token() == "second"


def test_inline_data_wins_and_stays_out_of_repr(pair: tuple[bytes, bytes]) -> None:
    user = {
        "client-certificate-data": base64.b64encode(pair[0]).decode(),
        "client-key-data": base64.b64encode(pair[1]).decode(),
        "token": "hush",
    }
    cluster = {"certificate-authority": "/no/such", "certificate-authority-data": base64.b64encode(pair[0]).decode()}
    parsed = parse_kubeconfig(config(cluster, user))
    assert parsed.ssl_context() is not None
    assert "PRIVATE" not in repr(parsed)
    assert "hush" not in repr(parsed)


def test_plain_http_needs_no_tls() -> None:
    assert parse_kubeconfig(config({"server": "http://10.0.0.1:8080"}, {})).ssl_context() is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "holds no kubeconfig"),
        ({}, "no current context"),
        ({"current-context": "x"}, "no context named 'x'"),
        ({**config({}, {}), "clusters": None}, "no cluster named 'c'"),
        (config({"server": ""}, {}), "has no server"),
        (config({"certificate-authority-data": "!"}, {}), "certificate-authority-data in kubeconfig is not base64"),
        (config({}, {"exec": {"command": "aws"}}), "plug-in"),
    ],
)
def test_bad_kubeconfigs(data: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_kubeconfig(data)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read kubeconfig .*No such file"):
        load_kubeconfig(tmp_path / "none")
    with pytest.raises(UserError, match="cannot read certificate authority"):
        parse_kubeconfig(config({"certificate-authority": "/no/such"}, {})).ssl_context()


def test_unusable_certificate() -> None:
    with pytest.raises(UserError, match="unusable certificate"):
        parse_kubeconfig(config({"certificate-authority-data": base64.b64encode(b"no pem").decode()}, {})).ssl_context()
