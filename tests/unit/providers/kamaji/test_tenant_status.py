"""The status of a TenantControlPlane."""

from datetime import UTC, datetime, timedelta

import msgspec

from pilvi.api.kamaji import TenantControlPlane
from pilvi.api.object import decode
from pilvi.providers.kamaji.tenantcontrolplane.secrets import SUFFIXES
from pilvi.providers.kamaji.tenantcontrolplane.status import (
    Problem,
    Progress,
    compute_status,
    find_deployment_condition,
    installed_version,
    recorded_digest,
    recorded_keys,
)
from tests.unit.providers.kamaji.objects import ADDRESS, plane, tenant

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
SERVICE = {
    "metadata": {"name": "first", "namespace": "default"},
    "spec": {"ports": [{"port": 6443}]},
    "status": {"loadBalancer": {"ingress": [{"ip": str(ADDRESS)}]}},
}


def complete(**changes: object) -> Progress:
    progress = Progress(
        wanted="v1.37.2",
        installed="v1.37.2",
        service=SERVICE,
        address=ADDRESS,
        plane=plane(),
        data_store=("schema", "user"),
        checksums=dict.fromkeys(SUFFIXES, "0a"),
        ready=True,
        inside="digest",
        core_dns=True,
        kube_proxy=False,
    )
    return msgspec.structs.replace(progress, **changes)


def test_ready() -> None:
    obj = tenant()
    obj["status"] = compute_status(obj, complete(), NOW)
    typed = decode(TenantControlPlane, obj).status
    assert typed is not None
    assert typed.control_plane_endpoint == "10.250.3.7:6443"
    assert typed.kubernetes_resources is not None
    assert typed.kubernetes_resources.version is not None
    assert (typed.kubernetes_resources.version.status, typed.kubernetes_resources.version.version) == ("Ready", "v1.37.2")
    assert typed.observed_generation == 1
    assert installed_version(obj) == "v1.37.2"
    assert recorded_digest(obj) == "digest"
    assert recorded_keys(obj) == {"ca", "front-proxy-ca", "etcd-ca", "sa"}
    assert obj["status"]["storage"]["dataStoreName"] == "default"
    assert obj["status"]["addons"]["coreDNS"]["enabled"] is True
    assert obj["status"]["addons"]["kubeProxy"]["enabled"] is False


def test_the_same_state_gives_the_same_status() -> None:
    obj = tenant()
    obj["status"] = compute_status(obj, complete(), NOW)
    assert compute_status(obj, complete(), LATER) == obj["status"]


def test_times_move_only_with_what_changed() -> None:
    obj = tenant()
    obj["status"] = compute_status(obj, complete(), NOW)
    after = compute_status(obj, complete(checksums={**dict.fromkeys(SUFFIXES, "0a"), "api-server-certificate": "0b"}), LATER)
    assert after["certificates"]["apiServer"]["lastUpdate"] != obj["status"]["certificates"]["apiServer"]["lastUpdate"]
    assert after["certificates"]["ca"] == obj["status"]["certificates"]["ca"]


def test_phases() -> None:
    def phase(progress: Progress) -> str:
        return str(compute_status(tenant(), progress, NOW)["kubernetesResources"]["version"]["status"])

    assert phase(Progress(wanted="v1.37.2", installed=None)) == "Provisioning"
    assert phase(complete(installed=None, inside=None)) == "Provisioning"
    assert phase(complete()) == "Ready"
    assert phase(complete(ready=False)) == "NotReady"
    assert phase(complete(installed="v1.36.3")) == "Upgrading"
    assert phase(complete(installed="v1.36.3", ready=False)) == "Upgrading"


def test_a_problem_is_told_and_forgets_nothing() -> None:
    obj = tenant()
    obj["status"] = compute_status(obj, complete(), NOW)
    obj["metadata"]["generation"] = 2
    problem = Problem("CertificateAuthorityMissing", "put it back")
    status = compute_status(obj, Progress(wanted="v1.37.2", installed="v1.37.2", inside="digest", problem=problem), LATER)
    assert status["observedGeneration"] == 1
    assert status["certificates"] == obj["status"]["certificates"]
    assert status["controlPlaneEndpoint"] == "10.250.3.7:6443"
    obj["status"] = status
    progressing = find_deployment_condition(obj, "Progressing")
    assert progressing is not None
    assert (progressing["status"], progressing["reason"], progressing["message"]) == ("False", "CertificateAuthorityMissing", "put it back")


def test_a_component_that_keeps_dying_does_not_hide_that_the_api_answers() -> None:
    obj = tenant()
    obj["status"] = compute_status(obj, complete(failing=Problem("ComponentFailing", "kube-scheduler keeps ending")), NOW)
    failing, available = find_deployment_condition(obj, "ReplicaFailure"), find_deployment_condition(obj, "Available")
    assert failing is not None
    assert failing["status"] == "True"
    assert available is not None
    assert available["status"] == "True"
