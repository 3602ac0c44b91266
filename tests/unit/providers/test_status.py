from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilvi.api import Key
from pilvi.api.builtin import PODS
from pilvi.errors import Conflict
from pilvi.kube import Client
from pilvi.providers.status import merge_patch, write_status
from tests.fake_api import FakeApi

# Objects of the API hold no nulls in maps.
VALUES = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
)
OBJECTS = st.dictionaries(st.text(max_size=2), VALUES, max_size=4)


def apply(old: Any, patch: Any) -> Any:
    """RFC 7386, as the API server does it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = apply(result.get(name), value)
    return result


@given(OBJECTS, OBJECTS)
def test_the_patch_makes_the_one_into_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert apply(old, merge_patch(old, new)) == new


@given(OBJECTS)
def test_equal_objects_need_no_patch(obj: dict[str, Any]) -> None:
    assert merge_patch(obj, obj) == {}


async def test_writes_only_changes_and_only_on_what_was_read(fake_api: FakeApi) -> None:
    key = Key("shop", "web")
    pod = fake_api.put(
        PODS.object_path(key), {"metadata": {"name": "web", "namespace": "shop"}, "status": {"phase": "Pending", "hostIP": "x"}}
    )
    async with Client.open(fake_api.kubeconfig) as client:
        assert await write_status(client, PODS, pod, {"phase": "Pending", "hostIP": "x"}) is pod
        assert not [method for method, _ in fake_api.requests if method == "PATCH"]
        stored = await write_status(client, PODS, pod, {"phase": "Running"})
        assert stored["status"] == {"phase": "Running"}
        with pytest.raises(Conflict):
            await write_status(client, PODS, pod, {"phase": "Failed"})
