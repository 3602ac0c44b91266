import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilvi.errors import Bug
from pilvi.kit.manifests import address_manifests, parse_documents, select_manifests

RENDERED = """
apiVersion: v1
kind: Namespace
metadata: {name: capi-system}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: things.example.org
  annotations: {cert-manager.io/inject-ca-from: a/b, keep: me}
  labels: {cluster.x-k8s.io/v1beta2: v1beta2}
spec:
  conversion:
    strategy: Webhook
    webhook: {conversionReviewVersions: [v1], clientConfig: {service: {name: s, namespace: n, path: /convert}}}
---
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: plain.example.org}
spec: {conversion: {strategy: None}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: validating}
webhooks:
- {name: a, clientConfig: {caBundle: Cg==, service: {name: s, namespace: n, path: /validate-a, port: 443}}}
- {name: b, clientConfig: {service: {name: s, namespace: n}}}
"""


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    objects = [*select_manifests("core", parse_documents(RENDERED)), *select_manifests("bootstrap", parse_documents(RENDERED))]
    path = tmp_path / "objects.json"
    path.write_bytes(msgspec.json.encode(objects))
    return path


def address(stored: Path) -> list[dict[str, Any]]:
    return address_manifests(stored, {"core": "https://10.0.0.2:9443", "bootstrap": "https://10.0.0.2:9444/"}, b"PEM")


def test_only_kinds_and_webhooks_are_kept(stored: Path) -> None:
    names = ["things.example.org", "plain.example.org", "validating"]
    assert [obj["metadata"]["name"] for obj in address(stored)] == names * 2


def test_every_webhook_gets_its_managers_url_and_our_authority(stored: Path) -> None:
    bundle = base64.b64encode(b"PEM").decode()
    crd, _, webhooks, bootstrap_crd, _, bootstrap_webhooks = address(stored)
    assert crd["spec"]["conversion"]["webhook"]["clientConfig"] == {"url": "https://10.0.0.2:9443/convert", "caBundle": bundle}
    assert bootstrap_crd["spec"]["conversion"]["webhook"]["clientConfig"]["url"] == "https://10.0.0.2:9444/convert"
    assert [webhook["clientConfig"] for webhook in webhooks["webhooks"]] == [
        {"url": "https://10.0.0.2:9443/validate-a", "caBundle": bundle},
        {"url": "https://10.0.0.2:9443/", "caBundle": bundle},
    ]
    assert bootstrap_webhooks["webhooks"][0]["clientConfig"]["url"] == "https://10.0.0.2:9444/validate-a"


def test_contract_labels_stay_and_cert_manager_goes(stored: Path) -> None:
    metadata = address(stored)[0]["metadata"]
    assert metadata["labels"] == {"cluster.x-k8s.io/v1beta2": "v1beta2"}
    assert metadata["annotations"] == {"keep": "me"}


def test_a_webhook_without_service_is_a_bug() -> None:
    objects = parse_documents(RENDERED)
    objects[-1]["webhooks"][0]["clientConfig"] = {"url": "https://elsewhere/"}
    with pytest.raises(Bug, match="ValidatingWebhookConfiguration validating"):
        select_manifests("core", objects)
