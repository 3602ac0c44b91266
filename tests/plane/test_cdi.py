"""DataVolumes in a real API server: what its policies refuse, and who may copy a disk of another namespace."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.api.builtin import CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, NAMESPACES, ROLE_BINDINGS, ROLES
from pilvi.api.capk import KubevirtMachine
from pilvi.api.cdi import DataImportCron, DataSource, DataVolume
from pilvi.api.kubevirt import VirtualMachine
from pilvi.api.resource import Key
from pilvi.plane.default_objects import defaults
from tests.plane.apiserver import NOBODY, Answer, ApiServer
from tests.plane.test_crds import wait_until

SIZE: JsonObject = {"resources": {"requests": {"storage": "1Gi"}}}
BLANK: JsonObject = {"blank": {}}
OTHER: JsonObject = {"pvc": {"name": "disk", "namespace": "golden"}}


@pytest.fixture(scope="module", autouse=True)
def user(api: ApiServer) -> None:
    """NOBODY may do all in the namespace `team`, and nothing in `golden`."""
    for name in ("team", "golden"):
        assert api.request("POST", NAMESPACES.path(), NAMESPACES.new(Key("", name))).status == 201
    may_all = {"rules": [{"apiGroups": ["cdi.kubevirt.io"], "resources": ["datavolumes", "datasources"], "verbs": ["*"]}]}
    machines = {"apiGroups": ["kubevirt.io"], "resources": ["virtualmachines"], "verbs": ["*"]}
    may_all["rules"].append(machines)
    grant(api, "team", "user", may_all)


def grant(server: ApiServer, namespace: str, name: str, role: JsonObject) -> None:
    """Let the user NOBODY do what the role says."""
    key = Key(namespace, name)
    assert server.request("POST", ROLES.path(namespace), ROLES.new(key, **role)).status == 201
    subject = {"kind": "User", "name": NOBODY, "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    binding = ROLE_BINDINGS.new(key, subjects=[subject], roleRef=reference)
    assert server.request("POST", ROLE_BINDINGS.path(namespace), binding).status == 201


def create(server: ApiServer, spec: JsonObject, *, user: str = "admin", kind: Any = DataVolume) -> Answer:
    obj = kind.RESOURCE.new(Key("team", "probe"), spec=spec)
    return server.request("POST", f"{kind.RESOURCE.path('team')}?dryRun=All", obj, user=user)


@pytest.mark.parametrize(
    "spec",
    [
        {"source": BLANK, "storage": SIZE},
        {"source": {"http": {"url": "https://example.org/x", "checksum": "md5:" + "0" * 32}}, "storage": SIZE},
        {"source": BLANK, "pvc": {**SIZE, "accessModes": ["ReadWriteOnce"]}},
        {"source": OTHER, "storage": {}},
        {"source": {"upload": {}}, "storage": SIZE},
        {"sourceRef": {"kind": "DataSource", "name": "x", "namespace": "golden"}, "storage": {}},
        {"storage": {**SIZE, "dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}}},
    ],
)
def test_what_is_taken(api: ApiServer, spec: JsonObject) -> None:
    answer = create(api, spec)
    assert answer.status == 201, answer.message
    assert not answer.warnings


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"source": BLANK}, "exactly one of spec.storage"),
        ({"source": BLANK, "storage": SIZE, "pvc": SIZE}, "exactly one of spec.storage"),
        ({"storage": SIZE}, "nothing says what shall be on the disk"),
        ({"source": {}, "storage": SIZE}, "names 0 sources"),
        ({"source": {**BLANK, "http": {"url": "http://x/y"}}, "storage": SIZE}, "names 2 sources"),
        ({"source": BLANK, "sourceRef": {"kind": "DataSource", "name": "x"}, "storage": SIZE}, "not both"),
        ({"source": BLANK, "storage": {**SIZE, "dataSourceRef": {"kind": "A", "name": "x"}}}, "not both"),
        ({"sourceRef": {"kind": "ConfigMap", "name": "x"}, "storage": SIZE}, "must be DataSource"),
        ({"source": {"http": {"url": "ftp://x/y"}}, "storage": SIZE}, "http:// or https://"),
        ({"source": {"http": {"url": "http://x/y", "checksum": "md5:12"}}, "storage": SIZE}, "all hex digits"),
        ({"source": BLANK, "storage": {}}, "size of the disk is not given"),
        ({"source": BLANK, "storage": {"resources": {"requests": {"storage": "-1Gi"}}}}, "positive quantity"),
        ({"source": BLANK, "pvc": SIZE}, "accessModes is empty"),
        ({"source": {"s3": {"url": "s3://x"}}, "storage": SIZE}, "presigned"),
        ({"source": {"registry": {"url": "oci://x"}}, "storage": SIZE}, "must be docker://"),
        ({"source": BLANK, "storage": SIZE, "contentType": "archive"}, "image of a file system"),
        ({"source": BLANK, "storage": SIZE, "checkpoints": [{"current": "a", "previous": ""}]}, "whole image"),
    ],
)
def test_what_is_refused_and_why(api: ApiServer, spec: JsonObject, words: str) -> None:
    answer = create(api, spec)
    assert answer.status == 422, answer
    assert words in answer.message


def test_a_spec_does_not_change(api: ApiServer) -> None:
    obj = DataVolume.RESOURCE.new(Key("team", "kept"), spec={"source": BLANK, "storage": SIZE})
    assert api.request("POST", DataVolume.RESOURCE.path("team"), obj).status == 201
    path = DataVolume.RESOURCE.object_path(Key("team", "kept"))
    patch = "application/merge-patch+json"
    answer = api.request("PATCH", path, {"spec": {"storage": {"storageClassName": "other"}}}, content_type=patch)
    assert answer.status == 422
    assert "cannot be changed" in answer.message
    assert api.request("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, content_type=patch).status == 200


def test_idle_fields_warn(api: ApiServer) -> None:
    answer = create(api, {"source": BLANK, "storage": SIZE, "priorityClassName": "x"})
    assert answer.status == 201
    assert "priorityClassName has no effect" in str(answer.warnings)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (DataVolume, {"source": OTHER, "storage": {}}),
        (DataVolume, {"source": {"snapshot": {"name": "s", "namespace": "golden"}}, "storage": {}}),
        (DataVolume, {"sourceRef": {"kind": "DataSource", "name": "x", "namespace": "golden"}, "storage": {}}),
        (DataSource, {"source": OTHER}),
        (DataSource, {"source": {"dataSource": {"name": "x", "namespace": "golden"}}}),
    ],
)
def test_copies_from_another_namespace_need_a_right_there(api: ApiServer, kind: Any, spec: JsonObject) -> None:
    answer = create(api, spec, user=NOBODY, kind=kind)
    assert answer.status == 422, answer
    assert "may not create datavolumes/source" in answer.message
    own = {"source": {"pvc": {"name": "x", "namespace": "team"}}, **({"storage": {}} if kind is DataVolume else {})}
    assert create(api, own, user=NOBODY, kind=kind).status == 201


def test_a_role_gives_that_right(api: ApiServer) -> None:
    spec = {"source": {"pvc": {"name": "x", "namespace": "shared"}}, "storage": {}}
    assert create(api, spec, user=NOBODY).status == 422
    assert api.request("POST", NAMESPACES.path(), NAMESPACES.new(Key("", "shared"))).status == 201
    grant(api, "shared", "copy", {"rules": [{"apiGroups": ["cdi.kubevirt.io"], "resources": ["datavolumes/source"], "verbs": ["create"]}]})
    answer = create(api, spec, user=NOBODY)
    assert answer.status == 201, answer.message


def machine(*templates: JsonObject) -> JsonObject:
    guest = {"domain": {"memory": {"guest": "64Mi"}, "devices": {}}, "volumes": [{"name": "root", "dataVolume": {"name": "root"}}]}
    return {"runStrategy": "Halted", "dataVolumeTemplates": [*templates], "template": {"spec": guest}}


def template(name: str = "root", **spec: Any) -> JsonObject:
    return {"metadata": {"name": name}, "spec": spec or {"source": BLANK, "storage": SIZE}}


FAR = template(source={"pvc": {"name": "disk", "namespace": "golden"}}, storage={})
FAR_REF = template(sourceRef={"kind": "DataSource", "name": "x", "namespace": "golden"}, storage={})
NEAR = template(source={"pvc": {"name": "disk", "namespace": "team"}}, storage={})


@pytest.mark.parametrize("far", [FAR, FAR_REF])
def test_who_writes_a_machine_needs_the_right_to_copy_its_disks(api: ApiServer, far: JsonObject) -> None:
    answer = create(api, machine(far), user=NOBODY, kind=VirtualMachine)
    assert answer.status == 422, answer
    assert "in another namespace, golden, in which you may not create datavolumes/source" in answer.message
    for spec in (machine(NEAR), machine(template())):
        answer = create(api, spec, user=NOBODY, kind=VirtualMachine)
        assert answer.status == 201, answer.message
        assert not answer.warnings
    assert create(api, machine(far), kind=VirtualMachine).status == 201


def test_who_leaves_the_disks_as_they_are_is_not_asked(api: ApiServer) -> None:
    obj = VirtualMachine.RESOURCE.new(Key("team", "far"), spec=machine(FAR))
    assert api.request("POST", VirtualMachine.RESOURCE.path("team"), obj).status == 201
    path, patch = VirtualMachine.RESOURCE.object_path(Key("team", "far")), "application/merge-patch+json"
    answer = api.request("PATCH", path, {"spec": {"runStrategy": "Manual"}}, content_type=patch, user=NOBODY)
    assert answer.status == 200, answer.message
    answer = api.request(
        "PATCH", path, {"spec": {"dataVolumeTemplates": [FAR, {**FAR, "metadata": {"name": "b"}}]}}, content_type=patch, user=NOBODY
    )
    assert answer.status == 422


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (machine(template(), template()), "a metadata.name of its own"),
        (machine({"metadata": {}, "spec": template()["spec"]}), "a metadata.name of its own"),
        (machine({"metadata": {"name": "a", "namespace": "golden"}, "spec": template()["spec"]}), "leave metadata.namespace out"),
        (machine(template(source={"s3": {"url": "s3://x"}}, storage=SIZE)), "presigned"),
    ],
)
def test_templates_that_are_refused(api: ApiServer, spec: JsonObject, words: str) -> None:
    answer = create(api, spec, kind=VirtualMachine)
    assert answer.status == 422, answer
    assert words in answer.message


def test_a_machine_that_others_make_copies_from_its_own_namespace_only(api: ApiServer) -> None:
    answer = create(api, {"virtualMachineTemplate": {"spec": machine(FAR)}}, kind=KubevirtMachine)
    assert answer.status == 422
    assert "in another namespace, golden; copy it" in answer.message
    answer = create(api, {"virtualMachineTemplate": {"spec": machine(NEAR)}}, kind=KubevirtMachine)
    assert answer.status == 201, answer.message


def cron(url: str = "docker://quay.io/team/debian:12", **spec: Any) -> JsonObject:
    imported = {"spec": {"source": {"registry": {"url": url}}, "storage": SIZE}}
    return {"managedDataSource": "debian", "schedule": "0 3 * * *", "template": imported, **spec}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (cron("http://x/y"), "must be a registry"),
        (cron(template={"spec": {"source": BLANK, "storage": SIZE}}), "must be a registry"),
        (cron(managedDataSource="x" * 51), "at most 63 and 50"),
        (cron(importsToKeep=-1), "must not be negative"),
        (cron(garbageCollect="Always"), "Outdated or Never"),
        (cron(retentionPolicy="Some"), "All or None"),
    ],
)
def test_crons_that_are_refused(api: ApiServer, spec: JsonObject, words: str) -> None:
    answer = create(api, spec, kind=DataImportCron)
    assert answer.status == 422, answer
    assert words in answer.message


def test_crons_that_are_taken_and_do_not_change(api: ApiServer) -> None:
    obj = DataImportCron.RESOURCE.new(Key("team", "kept"), spec=cron(importsToKeep=2, garbageCollect="Outdated", retentionPolicy="None"))
    answer = api.request("POST", DataImportCron.RESOURCE.path("team"), obj)
    assert answer.status == 201, answer.message
    assert not answer.warnings
    path, patch = DataImportCron.RESOURCE.object_path(Key("team", "kept")), "application/merge-patch+json"
    answer = api.request("PATCH", path, {"spec": {"schedule": "@daily"}}, content_type=patch)
    assert answer.status == 422
    assert "cannot change" in answer.message
    assert api.request("PATCH", path, {"metadata": {"annotations": {"a": "b"}}}, content_type=patch).status == 200


def test_who_edits_a_namespace_may_make_disks_there(api: ApiServer) -> None:
    for obj in (obj for obj in defaults() if obj["metadata"]["name"].startswith("cdi.kubevirt.io:")):
        kind = CLUSTER_ROLES if obj["kind"] == CLUSTER_ROLES.kind else CLUSTER_ROLE_BINDINGS
        assert api.request("POST", kind.path(), obj).status == 201
    assert api.request("POST", NAMESPACES.path(), NAMESPACES.new(Key("", "home"))).status == 201
    assert not may(api, "create", "cdi.kubevirt.io", "datavolumes")
    subject = {"kind": "User", "name": NOBODY, "apiGroup": "rbac.authorization.k8s.io"}
    role = CLUSTER_ROLES.object_path(Key("", "cdi.kubevirt.io:edit"))
    # The aggregation into `edit` is the controller manager's, which does not run here: its rules are bound themselves.
    assert api.request("GET", role).body["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    own = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cdi.kubevirt.io:edit"}
    direct = ROLE_BINDINGS.new(Key("home", "disks"), subjects=[subject], roleRef=own)
    assert api.request("POST", ROLE_BINDINGS.path("home"), direct).status == 201
    wait_until(lambda: may(api, "create", "cdi.kubevirt.io", "datavolumes"))
    assert may(api, "create", "upload.cdi.kubevirt.io", "uploadtokenrequests")
    assert may(api, "create", "cdi.kubevirt.io", "datavolumes", "source")
    assert may(api, "get", "cdi.kubevirt.io", "cdiconfigs", namespace="")
    assert not may(api, "update", "cdi.kubevirt.io", "cdiconfigs", namespace="")


def may(server: ApiServer, verb: str, group: str, resource: str, subresource: str = "", namespace: str = "home") -> bool:
    attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace}
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    spec = {"user": NOBODY, "groups": ["system:authenticated"], "resourceAttributes": attributes}
    answer = server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {**body, "spec": spec})
    return bool(answer.body["status"]["allowed"])
