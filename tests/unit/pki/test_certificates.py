"""Certificates: what they say, how long they live, and when they are due."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pilvi.pki import KeyPair, Usage, create_ca, create_signing_key, expires_at, issue, needs_renewal, public_key_hash


def parse(pair: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate)


def test_a_leaf_is_signed_by_its_authority_and_names_its_subject() -> None:
    ca = create_ca("kubernetes")
    leaf = parse(
        issue(
            ca,
            "kube-apiserver",
            Usage.SERVER,
            organizations=("one", "two"),
            dns_names=("kubernetes", "kubernetes"),
            addresses=(IPv4Address("10.96.0.1"),),
        )
    )
    leaf.verify_directly_issued_by(parse(ca))
    assert [attribute.value for attribute in leaf.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["one", "two"]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kubernetes"]
    assert names.get_values_for_type(x509.IPAddress) == [IPv4Address("10.96.0.1")]
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_another_authority_has_not_signed_it() -> None:
    leaf = parse(issue(create_ca("a"), "x", Usage.CLIENT))
    with pytest.raises(ValueError, match="Issuer"):
        leaf.verify_directly_issued_by(parse(create_ca("b")))


def test_a_leaf_never_outlives_its_authority() -> None:
    ca = create_ca("short", lifetime=timedelta(hours=1))
    assert expires_at(issue(ca, "x", Usage.CLIENT, lifetime=timedelta(days=365)).certificate) == expires_at(ca.certificate)


def test_renewal_is_due_when_a_third_of_the_life_is_left() -> None:
    leaf = issue(create_ca("a"), "x", Usage.CLIENT, lifetime=timedelta(minutes=30)).certificate
    now = datetime.now(UTC)
    assert not needs_renewal(leaf, now)
    assert not needs_renewal(leaf, now + timedelta(minutes=19))
    assert needs_renewal(leaf, now + timedelta(minutes=21))


def test_signing_key_is_a_public_and_a_private_key() -> None:
    pair = create_signing_key()
    assert b"BEGIN PUBLIC KEY" in pair.certificate
    assert b"BEGIN EC PRIVATE KEY" in pair.key


def test_public_key_hash_is_that_of_the_key_alone() -> None:
    ca = create_ca("a")
    assert public_key_hash(ca.certificate).startswith("sha256:")
    assert public_key_hash(ca.certificate) != public_key_hash(create_ca("a").certificate)


def test_a_key_pair_does_not_tell_its_key_when_printed() -> None:
    assert "PRIVATE" not in repr(create_ca("a"))
