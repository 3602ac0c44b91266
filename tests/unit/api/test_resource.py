"""Where objects are in the API, whatever they are called."""

import pytest
from yarl import URL

from pilvi.api import Key
from pilvi.api.builtin import NODES, PODS


def test_paths() -> None:
    assert PODS.object_path(Key("shop", "web")) == "/api/v1/namespaces/shop/pods/web"
    assert PODS.object_path(Key("shop", "web"), "status") == "/api/v1/namespaces/shop/pods/web/status"
    assert NODES.object_path(Key("", "host.example")) == "/api/v1/nodes/host.example"


@pytest.mark.parametrize("name", ["x/../../../kube-system/pods/dns", "..", ".", "x?fieldManager=y", "x#y", "x%2F..%2Fy", "ä b"])
def test_a_name_that_somebody_made_up_leads_nowhere_else(name: str) -> None:
    for key in (Key("shop", name), Key(name, "web")):
        url = URL(f"https://server{PODS.object_path(key, 'status')}")
        assert len(url.raw_parts) == len(URL("https://server/api/v1/namespaces/shop/pods/web/status").raw_parts)
        assert (url.raw_parts[1:4], url.raw_parts[-1], url.query_string, url.fragment) == (("api", "v1", "namespaces"), "status", "", "")
