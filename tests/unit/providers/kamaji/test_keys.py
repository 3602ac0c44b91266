"""Key material through its Secrets, and when it is issued anew."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509

from pilvi.api import JsonObject
from pilvi.controlplane import API_SERVER, AUTHORITIES, CONTROLLER_MANAGER, LEAVES, SCHEDULER, ControlPlane, Keys
from pilvi.pki import create_ca, expires_at
from pilvi.providers.kamaji.tenantcontrolplane.renewal import MissingKeys, Renewal, next_renewal, plan_keys, units_to_restart
from pilvi.providers.kamaji.tenantcontrolplane.secrets import SUFFIXES, StoredKeys, checksum, encode, read_keys, secret_data
from tests.unit.providers.kamaji.objects import plane, tenant

YEAR = timedelta(days=365)
EMPTY = StoredKeys({}, {}, None)
ALL = ("ca", "front-proxy-ca", "etcd-ca", "sa")
STORE = {"DB_SCHEMA": "s"}


def now() -> datetime:
    return datetime.now(UTC)


def planned(
    stored: StoredKeys = EMPTY, at: ControlPlane | None = None, when: datetime | None = None, lifetime: timedelta = YEAR
) -> Renewal:
    result = plan_keys(at or plane(), stored, (), when or now(), lifetime)
    assert isinstance(result, Renewal)
    return result


def secrets_of(keys: Keys) -> dict[str, JsonObject]:
    data = secret_data(plane(), keys, datastore=STORE)
    return {suffix: {"metadata": {"name": f"first-{suffix}"}, "data": encode(content)} for suffix, content in data.items()}


def stored(keys: Keys) -> StoredKeys:
    return StoredKeys(keys.authorities, keys.leaves, keys.service_account)


def test_from_empty_everything_is_made() -> None:
    renewal = planned()
    assert set(renewal.keys.authorities) == set(AUTHORITIES)
    assert set(renewal.keys.leaves) == set(LEAVES)
    assert renewal.renewed == {*ALL, *LEAVES}


def test_secrets_hold_everything_and_give_it_back() -> None:
    keys = planned().keys
    secrets = secrets_of(keys)
    assert set(secrets) == set(SUFFIXES)
    read = read_keys(secrets, AUTHORITIES)
    assert Keys(read.authorities, read.leaves, read.service_account or keys.service_account) == keys
    assert planned(read).renewed == frozenset()


def test_names_and_keys_of_kamaji() -> None:
    secrets = secrets_of(planned().keys)
    assert set(secrets["ca"]["data"]) == {"ca.crt", "ca.key", "tls.crt", "tls.key"}
    assert set(secrets["sa-certificate"]["data"]) == {"sa.key", "sa.pub"}
    assert set(secrets["api-server-certificate"]["data"]) == {"apiserver.crt", "apiserver.key"}
    assert {"admin.conf", "super-admin.conf", "admin.svc", "super-admin.svc"} == set(secrets["admin-kubeconfig"]["data"])
    assert {"ca.crt", "server.crt", "server.key"} <= set(secrets["datastore-certificate"]["data"])


@pytest.mark.parametrize("lost", ALL)
def test_a_lost_authority_is_never_made_anew(lost: str) -> None:
    keys = planned().keys
    have = stored(keys)
    if lost == "sa":
        have = msgspec.structs.replace(have, service_account=None)
    else:
        have = msgspec.structs.replace(have, authorities={name: pair for name, pair in have.authorities.items() if name != lost})
    result = plan_keys(plane(), have, ALL, now(), YEAR)
    assert isinstance(result, MissingKeys)
    assert result.names == (lost,)
    assert result.secret_names("first")[0].startswith("first-")


def test_half_made_authorities_are_completed() -> None:
    keys = planned().keys
    half = StoredKeys({"ca": keys.authorities["ca"]}, {}, None)
    result = planned(half)
    assert result.keys.authorities["ca"] == keys.authorities["ca"]
    assert "etcd-ca" in result.renewed


@pytest.mark.parametrize("damage", ["", "bm90IHBlbQ=="])
def test_a_damaged_leaf_is_issued_anew(damage: str) -> None:
    secrets = secrets_of(planned().keys)
    secrets["front-proxy-client-certificate"]["data"]["front-proxy-client.crt"] = damage
    assert planned(read_keys(secrets, AUTHORITIES)).renewed == {"front-proxy-client"}


@pytest.mark.parametrize("document", [b"{}", b"apiVersion: v1", b'{"users": [{"user": {}}]}', b'{"users": 3}'])
def test_a_damaged_kubeconfig_is_issued_anew(document: bytes) -> None:
    secrets = secrets_of(planned().keys)
    secrets["scheduler-kubeconfig"]["data"] = encode({"scheduler.conf": document})
    assert planned(read_keys(secrets, AUTHORITIES)).renewed == {"scheduler"}


def test_rotate_annotation_renews_leaves_but_no_authority() -> None:
    secrets = secrets_of(planned().keys)
    for secret in secrets.values():
        secret["metadata"]["annotations"] = {"certs.kamaji.clastix.io/rotate": ""}
    assert planned(read_keys(secrets, AUTHORITIES)).renewed == set(LEAVES)


def test_another_authority_makes_its_leaves_worthless() -> None:
    keys = planned().keys
    other = msgspec.structs.replace(stored(keys), authorities={**keys.authorities, "front-proxy-ca": create_ca("other")})
    assert planned(other).renewed == {"front-proxy-client"}


def test_a_new_name_in_the_certificate() -> None:
    keys = planned().keys
    wider = plane(tenant(networkProfile={"certSANs": ["api.example.org"]}))
    result = planned(stored(keys), wider)
    assert result.renewed == {"apiserver"}
    certificate = x509.load_pem_x509_certificate(result.keys.leaves["apiserver"].certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "api.example.org" in names.get_values_for_type(x509.DNSName)
    assert planned(stored(result.keys), wider).renewed == frozenset()


@pytest.mark.parametrize(("minutes", "renewed"), [(0, False), (7, False), (9, True), (13, True)])
def test_renewal_when_a_third_is_left(minutes: int, renewed: bool) -> None:
    keys = planned(lifetime=timedelta(minutes=12)).keys
    result = planned(stored(keys), when=now() + timedelta(minutes=minutes), lifetime=timedelta(minutes=12))
    assert bool(result.renewed) is renewed
    assert result.renewed <= set(LEAVES)


def test_next_renewal_is_when_a_third_is_left() -> None:
    keys = planned(lifetime=timedelta(minutes=12)).keys
    assert abs(next_renewal(keys) - (now() + timedelta(minutes=8))) < timedelta(seconds=5)
    assert next_renewal(keys) < min(expires_at(pair.certificate) for pair in keys.leaves.values())


def test_units_restart_only_when_the_disk_might_be_read_too_late() -> None:
    before = {API_SERVER: now() - timedelta(hours=1), CONTROLLER_MANAGER: now() - timedelta(hours=1), SCHEDULER: now() + timedelta(hours=1)}
    short = planned(lifetime=timedelta(minutes=12)).keys
    assert units_to_restart(short, before) == {API_SERVER, CONTROLLER_MANAGER}
    assert units_to_restart(short, {}) == frozenset()
    assert units_to_restart(planned().keys, before) == frozenset()


def test_checksum_sees_every_byte_and_name() -> None:
    base: dict[str, Any] = {"a": b"1", "b": b"2"}
    assert checksum(base) == checksum({"b": b"2", "a": b"1"})
    assert len({checksum(base), checksum({"a": b"1"}), checksum({"a": b"1", "c": b"2"}), checksum({"a": b"12", "b": b""})}) == 4
