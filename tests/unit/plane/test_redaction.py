"""What is left out of a report, and what is not: it has to stay of use."""

import base64
import json
import time

import pytest
import yaml

from pilvi.api import JsonObject
from pilvi.pki import create_ca
from pilvi.plane.redaction import HIDDEN, redact, redact_text, redact_value
from tests.unit.plane.objects import SECRET


def test_secrets_keep_their_keys_only() -> None:
    clean = redact(SECRET)
    assert "hunter2" not in str(clean)
    assert "aHVudGVyMg==" not in str(clean)
    assert list(clean["data"]) == ["key"]
    assert clean["metadata"] == {"name": "s", "annotations": {"kept": "yes"}}
    assert SECRET["data"] == {"key": "aHVudGVyMg=="}


def test_tokens_and_user_data_are_left_out_wherever_they_stand() -> None:
    config: JsonObject = {
        "kind": "KubeadmConfig",
        "metadata": {"name": "c"},
        "spec": {
            "joinConfiguration": {"discovery": {"bootstrapToken": {"token": "abc.def", "apiServerEndpoint": "1.2.3.4:6443"}}},
            "users": [{"name": "me", "passwd": "hash"}],
            "volumes": [{"cloudInitNoCloud": {"userData": "#cloud-config", "userDataSecretRef": {"name": "s"}}}],
        },
    }
    clean = redact(config)
    for word in ("abc.def", "hash", "#cloud-config"):
        assert word not in str(clean)
    assert clean["spec"]["joinConfiguration"]["discovery"]["bootstrapToken"]["apiServerEndpoint"] == "1.2.3.4:6443"
    assert clean["spec"]["volumes"][0]["cloudInitNoCloud"]["userDataSecretRef"] == {"name": "s"}


def test_a_bootstrap_is_known_by_its_fields() -> None:
    """The shell of a KubeadmConfig, its files, and the same in a template and in what kubectl remembers of it."""
    spec: JsonObject = {
        "files": [{"path": "/etc/key", "content": "CANARY-0"}, {"path": "/etc/other", "contentFrom": {"secret": {"name": "s"}}}],
        "preKubeadmCommands": ["echo CANARY-1"],
        "postKubeadmCommands": ["echo CANARY-2"],
        "bootCommands": ["echo CANARY-3"],
    }
    applied = {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "CANARY-4", "kept": "yes"}}
    clean = redact({"kind": "KubeadmConfigTemplate", "metadata": {"name": "t"}, "spec": {"template": {"metadata": applied, "spec": spec}}})
    assert "CANARY" not in str(clean)
    template = clean["spec"]["template"]
    assert template["metadata"] == {"annotations": {"kept": "yes"}}
    assert [entry["path"] for entry in template["spec"]["files"]] == ["/etc/key", "/etc/other"]
    assert template["spec"]["files"][1]["contentFrom"] == {"secret": {"name": "s"}}


def test_the_environment_keeps_its_names() -> None:
    env = [{"name": "PASSWORD", "value": "CANARY"}, {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    clean = redact({"kind": "Deployment", "metadata": {}, "spec": {"template": {"spec": {"containers": [{"name": "c", "env": env}]}}}})
    assert clean["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "PASSWORD", "value": HIDDEN}, env[1]]


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_kubeconfigs_and_secrets_inside_of_config_maps(form: str) -> None:
    kubeconfig = {"kind": "Config", "clusters": [], "users": [{"name": "me", "user": {"token": "CANARY-0"}}]}
    secret = {"apiVersion": "v1", "kind": "Secret", "stringData": {"a": "CANARY-1"}}
    write = json.dumps if form == "json" else yaml.safe_dump
    public = yaml.safe_dump({"kind": "Config", "clusters": [{"cluster": {"server": "https://10.0.0.1:6443"}}], "users": []})
    data = {"kubeconfig": write(kubeconfig), "manifests": write(secret), "cluster-info": public, "plain": "verbose: true"}
    clean = redact({"kind": "ConfigMap", "metadata": {"name": "c"}, "data": data, "binaryData": {"b": "Q0FOQVJZ"}})
    assert clean["data"] == {"kubeconfig": HIDDEN, "manifests": HIDDEN, "cluster-info": public, "plain": "verbose: true"}
    assert clean["binaryData"] == {"b": HIDDEN}


KEY = create_ca("a test").key.decode()


@pytest.mark.parametrize(
    "text",
    [
        "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef",
        "[preflight] abcdef.0123456789abcdef is not valid",
        'token: "0123456789abcdef"',
        '{"password":"0123456789abcdef"}',
        "--client-secret=0123456789abcdef",
        "--db-password 0123456789abcdef",
        "Authorization: Bearer 0123456789abcdef",
        "pull https://me:0123456789abcdef@registry.example/image",
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.0123456789abcdef",
    ],
)
def test_what_looks_like_a_secret_goes_from_any_text(text: str) -> None:
    clean = redact_text(f"before {text}\nafter")
    assert "0123456789abcdef" not in clean
    assert clean.startswith("before ")
    assert clean.endswith("\nafter")
    assert HIDDEN in clean


def test_private_keys_go_also_those_that_are_cut_off_or_encoded() -> None:
    lines = KEY.splitlines()
    encoded = base64.b64encode(KEY.encode()).decode()
    for text in (KEY, "\n".join(lines[:-1]), "\n".join(lines[1:]), f"client-key: {encoded} x", json.dumps({"key": KEY})):
        clean = redact_text(f"before\n{text}")
        assert clean.startswith("before")
        assert not [line for line in lines[1:-1] if line in clean]
        assert encoded not in clean


@pytest.mark.parametrize(
    "text",
    [
        "E1126 10:00:00 token.go:12] --enable-bootstrap-token-auth=true --service-account-key-file=/pki/sa.pub",
        "Secret default/first-ca is gone; kube-apiserver.audit.k8s.io",
        "image registry.k8s.io/coredns/coredns:v1.12.0 and 10.250.0.3:6443",
        create_ca("a test").certificate.decode(),
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact_text(text) == text


def test_an_option_that_is_a_word_of_its_own_hides_the_next() -> None:
    assert redact_value(["x", "--token", "CANARY", "--verbose", "y"]) == ["x", "--token", HIDDEN, "--verbose", "y"]


@pytest.mark.parametrize("piece", ["a", "-a", "a.b-", "a://", "a:", "YWJjYWJjYWJj ", "--token-", "eyJ.", "LS0tLS1CRUdJTi", "-----BEGIN "])
def test_no_text_takes_time_out_of_proportion(piece: str) -> None:
    """Logs are megabytes, and a line of them may be anything."""
    began = time.process_time()
    redact_text(piece * (200_000 // len(piece)))
    assert time.process_time() - began < 2
