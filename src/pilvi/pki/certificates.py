"""Certificate authorities and the leaf certificates they sign.

EC P-256 keys take a fifth of a millisecond, so all of this may run in the event loop (RSA would block it for 70 ms a key).
"""

import enum
import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=365)

# Certificates are valid from a little before now, so that a peer whose clock is behind accepts them.
CLOCK_SKEW = timedelta(minutes=5)


class Usage(enum.Flag):
    """What a leaf certificate is for."""

    CLIENT = enum.auto()
    SERVER = enum.auto()


class KeyPair(msgspec.Struct, frozen=True):
    """A certificate and its private key, both PEM; the key is an unencrypted "EC PRIVATE KEY"."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        """Hide the key: a KeyPair that lands in a log line must not tell it."""
        return "KeyPair(...)"


def create_ca(common_name: str, lifetime: timedelta = CA_LIFETIME) -> KeyPair:
    """Make a self-signed certificate authority that may sign leaf certificates only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        _builder(name, name, key.public_key(), lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
    )
    return KeyPair(_pem(builder.sign(key, hashes.SHA256())), _key_pem(key))


def issue(
    ca: KeyPair,
    common_name: str,
    usage: Usage,
    *,
    organizations: Iterable[str] = (),
    dns_names: Iterable[str] = (),
    addresses: Iterable[IPv4Address] = (),
    lifetime: timedelta = LEAF_LIFETIME,
) -> KeyPair:
    """Issue a leaf certificate with a new key.

    `organizations` become Kubernetes groups; `dns_names` and `addresses` the subject alternative names of a server.
    The life is cut to what is left of the CA's. Raises ValueError when `ca` is not PEM.
    """
    authority = x509.load_pem_x509_certificate(ca.certificate)
    authority_key = _load_key(ca.key)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    purposes = []
    if usage & Usage.SERVER:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    if usage & Usage.CLIENT:
        purposes.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    builder = (
        _builder(subject, authority.subject, key.public_key(), lifetime, not_past=authority.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dict.fromkeys(dns_names)]
    names += [x509.IPAddress(address) for address in dict.fromkeys(addresses)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return KeyPair(_pem(builder.sign(authority_key, hashes.SHA256())), _key_pem(key))


def create_signing_key() -> KeyPair:
    """Make the key pair that signs service account tokens; `certificate` holds the public key, as kubeadm's sa.pub does."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return KeyPair(public, _key_pem(key))


def expires_at(certificate: bytes) -> datetime:
    """When this PEM certificate ends, in UTC."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def get_names(certificate: bytes) -> tuple[str, ...]:
    """The DNS names that this PEM certificate of a server is for, in its order; ExtensionNotFound when it has no alternative names."""
    extension = x509.load_pem_x509_certificate(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def needs_renewal(certificate: bytes, now: datetime) -> bool:
    """Whether less than a third of the certificate's life is left at `now` (aware, UTC)."""
    parsed = x509.load_pem_x509_certificate(certificate)
    start = parsed.not_valid_before_utc + CLOCK_SKEW
    return now >= parsed.not_valid_after_utc - (parsed.not_valid_after_utc - start) / 3


def public_key_hash(certificate: bytes) -> str:
    """`sha256:<hex>` of the certificate's public key, as kubeadm's --discovery-token-ca-cert-hash wants it."""
    public_key = x509.load_pem_x509_certificate(certificate).public_key()
    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(der).hexdigest()


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, lifetime: timedelta, not_past: datetime | None = None
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    end = now + lifetime if not_past is None else min(now + lifetime, not_past)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the certificate authority's key is not an EC key; pilvi makes and reads EC P-256 keys only")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
