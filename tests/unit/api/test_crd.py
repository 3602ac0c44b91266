from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from pilvi.api.crd import crd_of, members, part_of
from pilvi.api.crds import KINDS, all_crds
from pilvi.api.field import Field, Part
from tests.unit.api.toy import Inner, Toy

CRDS = {crd["metadata"]["name"]: crd for crd in all_crds()}


def test_the_head_of_a_definition() -> None:
    crd = crd_of(Toy)
    assert crd["metadata"] == {"name": "toys.toys.example"}
    assert crd["spec"]["names"] == {
        "kind": "Toy",
        "listKind": "ToyList",
        "plural": "toys",
        "singular": "toy",
        "shortNames": ["ty"],
        "categories": ["all"],
    }
    assert crd["spec"]["scope"] == "Namespaced"
    v2, v1 = crd["spec"]["versions"]
    assert (v2["name"], v2["served"], v2["storage"]) == ("v2", True, True)
    assert (v1["name"], v1["served"], v1["storage"]) == ("v1", True, False)
    assert v1["schema"] == v2["schema"]
    assert v2["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
    assert v2["additionalPrinterColumns"] == [
        {"name": "Ready", "jsonPath": ".status.ready", "type": "boolean"},
        {"name": "More", "jsonPath": ".spec.more", "type": "string", "priority": 1},
    ]


def test_the_schema() -> None:
    schema = crd_of(Toy)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert (schema["type"], schema["description"], schema["required"]) == ("object", "A toy.", ["spec"])
    assert list(schema["properties"]) == ["apiVersion", "kind", "metadata", "spec", "status"]
    assert schema["properties"]["status"] == {
        "type": "object",
        "properties": {
            "ready": {"description": "Ready.", "type": "boolean", "default": False},
            "since": {"type": "string", "format": "date-time"},
        },
        "required": ["ready"],
    }
    spec = schema["properties"]["spec"]
    assert spec["required"] == ["must"]
    fields = spec["properties"]
    assert fields["must"] == {"description": "Must be.", "type": "string", "enum": ["a", "b"]}
    plain = {
        "type": "object",
        "properties": {"key": {"type": "string"}, "value": {"type": "boolean", "default": False}},
        "required": ["key"],
        "x-kubernetes-map-type": "atomic",
    }
    assert fields["bad"] == {"description": "Bad. Rejected: it is unsafe. Instead: must: b.", **plain}
    assert fields["idle"] == {"description": "Idle. Accepted: no need.", **plain, "default": {"key": "x"}}
    assert fields["number"]["x-kubernetes-int-or-string"] is True
    assert "type" not in fields["number"]
    assert fields["quantities"]["additionalProperties"]["pattern"].startswith("^(")
    assert fields["opaque"]["x-kubernetes-preserve-unknown-fields"] is True
    assert (fields["items"]["x-kubernetes-list-type"], fields["items"]["x-kubernetes-list-map-keys"]) == ("map", ["size"])
    assert fields["items"]["items"]["properties"]["unknown"] == {"description": "Accepted: not implemented yet.", "type": "string"}


class Odd(Part):
    field: int | bool


class OddToy(Toy):
    """Odd."""

    spec: Odd  # type: ignore[assignment]


def test_a_union_that_a_schema_cannot_say() -> None:
    with pytest.raises(TypeError, match=r"write int \| str"):
        crd_of(OddToy)


def test_notes_are_inherited_only_where_nothing_is_considered() -> None:
    whole = Field(doc="Whole.")
    assert {member.name: member.note.reason for member in members(Inner, whole)} == {
        "size": "not implemented yet",
        "unknown": "not implemented yet",
        "used": "",
    }


def test_contract_labels() -> None:
    labels = CRDS["kubevirtclusters.infrastructure.cluster.x-k8s.io"]["metadata"]["labels"]
    assert labels["cluster.x-k8s.io/v1beta2"] == "v1alpha1"
    assert labels["clusterctl.cluster.x-k8s.io"] == ""
    labels = CRDS["kamajicontrolplanes.controlplane.cluster.x-k8s.io"]["metadata"]["labels"]
    assert labels["cluster.x-k8s.io/v1beta2"] == "v1alpha2"
    assert "labels" not in CRDS["vpcs.kubeovn.io"]["metadata"]


@pytest.mark.parametrize("name", CRDS)
def test_every_schema_is_structural(name: str) -> None:
    for version in CRDS[name]["spec"]["versions"]:
        for path, schema in walk(version["schema"]["openAPIV3Schema"], ""):
            free = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
            assert "type" in schema or free, path
            assert set(schema.get("required", [])) <= set(schema.get("properties", {})), path


def walk(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, sub in schema.get("properties", {}).items():
        yield from walk(sub, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from walk(schema[word], f"{path}[]" if word == "items" else f"{path}{{}}")


def test_the_definitions_stay_lean() -> None:
    """The API server keeps every schema in memory, several times; `pilvi up` waits for it."""
    assert sum(len(msgspec.json.encode(crd)) for crd in CRDS.values()) < 900_000


def test_json_names_are_unique_in_every_struct() -> None:
    seen: set[type[Part]] = set()
    todo: list[type[Part]] = list(KINDS)
    while todo:
        part = todo.pop()
        infos = msgspec.structs.fields(part)
        names = [info.encode_name for info in infos]
        assert len(names) == len(set(names)), part
        for info in infos:
            inner, _ = part_of(info.type)
            if inner is not None and inner not in seen:
                seen.add(inner)
                todo.append(inner)
    assert len(seen) > 200
