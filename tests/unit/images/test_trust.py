"""Whom a pull trusts: the host's authorities, those that are named, and registries that are allowed to do without."""

from __future__ import annotations

import ssl
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from pilvi.errors import Transient, UserError
from pilvi.images import Credentials, ImageStore, parse_reference
from pilvi.pki import Usage, create_ca, issue
from tests.images.bootsector import boot_disk
from tests.images.registry import make_layer, serve_registry

LAYER = make_layer({"disk/disk.img": boot_disk("hello")})


@pytest.fixture(autouse=True)
def _no_plain_http_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.images.registry._scheme", lambda _host: "https")


async def test_an_authority_that_is_named(tmp_path: Path) -> None:
    authority = create_ca("authority of the test")
    pair = issue(authority, "registry", Usage.SERVER, addresses=[IPv4Address("127.0.0.1")])
    (tmp_path / "cert").write_bytes(pair.certificate)
    (tmp_path / "key").write_bytes(pair.key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    store = ImageStore(tmp_path / "images")
    async with serve_registry(tls) as registry:
        reference = parse_reference(registry.add("team/disk", "1", LAYER))
        with pytest.raises(UserError, match="is not trusted"):
            await store.ensure(reference, "Always")
        with pytest.raises(UserError, match="not certificates in PEM"):
            await store.ensure(reference, "Always", Credentials("", "", "nonsense"))
        disk = await store.ensure(reference, "Always", Credentials("", "", authority.certificate.decode()))
        assert disk.path.read_bytes() == boot_disk("hello")
        assert not any("Authorization" in headers for headers in registry.seen)


async def test_a_registry_whose_certificate_does_not_count(tmp_path: Path) -> None:
    pair = issue(create_ca("nobody"), "registry", Usage.SERVER)
    (tmp_path / "cert").write_bytes(pair.certificate)
    (tmp_path / "key").write_bytes(pair.key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    store = ImageStore(tmp_path / "images")
    async with serve_registry(tls) as registry:
        store.insecure = frozenset({registry.host})
        assert (await store.ensure(parse_reference(registry.add("team/disk", "1", LAYER)), "Always")).path.exists()


async def test_a_registry_without_tls(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "images")
    async with serve_registry() as registry:
        reference = parse_reference(registry.add("team/disk", "1", LAYER))
        with pytest.raises(Transient, match="does not answer"):
            await store.ensure(reference, "Always")
        store.insecure = frozenset({registry.host})
        assert (await store.ensure(reference, "Always")).path.exists()
        store.insecure = frozenset({"other.example.org"})
        with pytest.raises(Transient, match="does not answer"):
            await store.ensure(reference, "Always")
