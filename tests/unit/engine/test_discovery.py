"""What discovery says of what the engine serves."""

from __future__ import annotations

from typing import Any

from pilvi.engine.serve.discovery import version_document
from pilvi.providers.aggregation import ApiGroup, Endpoint


async def handle(_request: Any) -> Any:
    raise NotImplementedError


def test_what_can_be_created_has_a_kind_and_subresources_have_none() -> None:
    endpoints = (
        Endpoint("POST", "tokens", handle, of="namespace", kind="Token"),
        Endpoint("PUT", "machines", handle, "start"),
        Endpoint("GET", "machines", handle, "port", tail="/{port}"),
        Endpoint("GET", "machines", handle, "port", tail="/{port}/{protocol}"),
        Endpoint("GET", "version", handle, of="group"),
    )
    document = version_document(ApiGroup("x.example", ("v1",), endpoints), "v1")
    assert document["groupVersion"] == "x.example/v1"
    assert [(entry["name"], entry["kind"], entry["singularName"], entry["verbs"]) for entry in document["resources"]] == [
        ("tokens", "Token", "token", ["create"]),
        ("machines/start", "", "", []),
        ("machines/port", "", "", []),
    ]
