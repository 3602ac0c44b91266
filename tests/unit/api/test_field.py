from __future__ import annotations

import pytest

from pilvi.api.field import NOT_YET, Level, accepted, camel, implemented, rejected, shape


@pytest.mark.parametrize(
    ("python", "json"),
    [
        ("cidr_block", "cidrBlock"),
        ("cert_sans", "certSANs"),
        ("exclude_ips", "excludeIps"),
        ("dns_service_ips", "dnsServiceIPs"),
        ("v4_ip_address", "v4IpAddress"),
        ("from_", "from"),
        ("migration_uid", "migrationUID"),
        ("migration_uid_", "migrationUid"),
    ],
)
def test_json_names(python: str, json: str) -> None:
    assert camel(python) == json


def test_descriptions_say_level_reason_and_what_to_write() -> None:
    assert implemented("What it is.").description == "What it is."
    assert accepted("What it is.", "no need").description == "What it is. Accepted: no need."
    assert accepted("What it is.").description == "What it is. Accepted: not implemented yet."
    assert rejected("What it is.", "unsafe", "leave it out").description == "What it is. Rejected: unsafe. Instead: leave it out."
    assert NOT_YET.description == "Accepted: not implemented yet."


def test_schema_keywords() -> None:
    note = shape(min_length=1, list_map=["name"], nullable=True)
    assert note.schema == {
        "minLength": 1,
        "x-kubernetes-list-map-keys": ["name"],
        "x-kubernetes-list-type": "map",
        "nullable": True,
    }
    assert note.level is None
    assert implemented("a", required=True).required
    assert accepted("a").level is Level.ACCEPTED
