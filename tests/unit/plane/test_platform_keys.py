"""The platform's own keys, kept across versions of pilvi."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from pilvi.pki import Usage, get_names, issue
from pilvi.plane.aggregation import server_name
from pilvi.plane.platform import platform_control_plane
from pilvi.plane.platform_keys import FILE, PlatformKeys, ensure_platform_keys
from tests.unit.providers.kamaji.objects import cloud


def test_a_certificate_for_fewer_names_is_made_anew(tmp_path: Path) -> None:
    """A cloud of a pilvi that served no API of its own has one for webhooks only."""
    plane = platform_control_plane(cloud(tmp_path))
    first = ensure_platform_keys(tmp_path, plane)
    assert server_name() in get_names(first.webhook.certificate)
    old = issue(first.webhook_ca, "pilvi-webhooks", Usage.SERVER, dns_names=("localhost",), addresses=(IPv4Address("127.0.0.1"),))
    (tmp_path / FILE).write_bytes(msgspec.json.encode(msgspec.structs.replace(first, webhook=old)))
    second = ensure_platform_keys(tmp_path, plane)
    assert server_name() in get_names(second.webhook.certificate)
    assert (second.webhook_ca, second.engine) == (first.webhook_ca, first.engine)
    assert msgspec.json.decode((tmp_path / FILE).read_bytes(), type=PlatformKeys) == second
    assert ensure_platform_keys(tmp_path, plane) == second


def test_a_cloud_of_a_pilvi_without_a_registry_gets_its_certificate(tmp_path: Path) -> None:
    plane = platform_control_plane(cloud(tmp_path))
    first = ensure_platform_keys(tmp_path, plane)
    content = msgspec.json.decode((tmp_path / FILE).read_bytes())
    del content["registry"]
    (tmp_path / FILE).write_bytes(msgspec.json.encode(content))
    second = ensure_platform_keys(tmp_path, plane)
    assert second.registry is not None
    assert get_names(second.registry.certificate) == ("pilvi.dev",)
    assert msgspec.structs.replace(second, registry=first.registry) == first
    assert ensure_platform_keys(tmp_path, plane) == second
