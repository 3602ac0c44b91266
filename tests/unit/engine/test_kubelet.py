"""What the engine answers in place of a kubelet."""

import pytest

from pilvi.engine.serve.kubelet import explain


@pytest.mark.parametrize(
    ("what", "hint"), [("containerLogs", "pilvi logs"), ("portForward", "LoadBalancer"), ("exec", "pilvi kubectl --cluster")]
)
def test_every_refusal_names_the_pod_and_what_to_use_instead(what: str, hint: str) -> None:
    said = explain(what, "default", "virt-launcher-x")
    assert "default/virt-launcher-x" in said
    assert hint in said
