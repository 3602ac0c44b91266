"""RFC 6902 on kubelet configurations."""

import pytest

from pilvi.errors import UserError
from pilvi.lib.json_patch import apply_json_patch

DOCUMENT = {"cgroupDriver": "systemd", "clusterDNS": ["10.96.0.10"], "evictionHard": {"nodefs.available": "10%"}, "a/b": {"~": 1}}


@pytest.mark.parametrize(
    ("operations", "path", "expected"),
    [
        ([{"op": "add", "path": "/maxPods", "value": 20}], ["maxPods"], 20),
        ([{"op": "replace", "path": "/cgroupDriver", "value": "cgroupfs"}], ["cgroupDriver"], "cgroupfs"),
        ([{"op": "remove", "path": "/cgroupDriver"}], ["cgroupDriver"], None),
        ([{"op": "add", "path": "/clusterDNS/-", "value": "10.96.0.11"}], ["clusterDNS"], ["10.96.0.10", "10.96.0.11"]),
        ([{"op": "add", "path": "/clusterDNS/0", "value": "10.96.0.9"}], ["clusterDNS"], ["10.96.0.9", "10.96.0.10"]),
        ([{"op": "replace", "path": "/clusterDNS/0", "value": "10.0.0.1"}], ["clusterDNS"], ["10.0.0.1"]),
        ([{"op": "copy", "from": "/cgroupDriver", "path": "/evictionHard/x"}], ["evictionHard", "x"], "systemd"),
        ([{"op": "move", "from": "/cgroupDriver", "path": "/driver"}], ["driver"], "systemd"),
        ([{"op": "replace", "path": "/a~1b/~0", "value": 2}], ["a/b", "~"], 2),
        ([{"op": "test", "path": "/cgroupDriver", "value": "systemd"}, {"op": "add", "path": "/x", "value": None}], ["x"], None),
    ],
)
def test_operations(operations: list[dict[str, object]], path: list[str], expected: object) -> None:
    before = repr(DOCUMENT)
    result = apply_json_patch(DOCUMENT, operations, field="f", hint="look")
    for part in path[:-1]:
        result = result[part]
    assert result.get(path[-1]) == expected
    assert repr(DOCUMENT) == before


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"op": "remove", "path": "/nothing"}, "there is no 'nothing'"),
        ({"op": "replace", "path": "/nothing", "value": 1}, "there is no 'nothing'"),
        ({"op": "test", "path": "/cgroupDriver", "value": "x"}, "another one"),
        ({"op": "add", "path": "/clusterDNS/7", "value": "x"}, "no element '7'"),
        ({"op": "add", "path": "maxPods", "value": 1}, "begins with /"),
        ({"op": "add", "path": "/maxPods"}, "no value"),
        ({"op": "add", "path": "/cgroupDriver/x", "value": 1}, "no object"),
        ({"op": "twist", "path": "/cgroupDriver"}, "not one of"),
        ({"op": "remove", "path": ""}, "whole document"),
        ({"op": "move", "from": "/evictionHard", "path": "/evictionHard/x"}, "into itself"),
    ],
)
def test_an_operation_that_does_not_fit_is_named(operation: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        apply_json_patch(DOCUMENT, [{"op": "test", "path": "/cgroupDriver", "value": "systemd"}, operation], field="spec.x", hint="look")
    assert str(caught.value).startswith("spec.x[1]")
