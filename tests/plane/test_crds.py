"""The custom resource definitions and admission policies in a real API server."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilvi.api.crds import KINDS
from pilvi.api.object import Object
from tests.plane.apiserver import Answer, ApiServer
from tests.plane.bad_machines import BAD, ODD


def wait_until(predicate: Any, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def kind_of(name: str) -> type[Object]:
    return next(kind for kind in KINDS if kind.RESOURCE.kind == name)


def path_of(name: str, version: str | None = None) -> str:
    resource = kind_of(name).RESOURCE
    path = resource.path("default" if resource.namespaced else None)
    return path.replace(f"/{resource.version}/", f"/{version}/") if version else path


def create(server: ApiServer, kind: str, obj: dict[str, Any], *, dry_run: bool = False, user: str = "admin", version: str = "") -> Answer:
    resource = kind_of(kind).RESOURCE
    body = {"apiVersion": f"{resource.group}/{version or resource.version}", "kind": kind, **obj}
    query = "?fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
    return server.request("POST", path_of(kind, version) + query, body, user=user)


def update(server: ApiServer, kind: str, name: str, patch: dict[str, Any], *, query: str = "", user: str = "admin") -> Answer:
    path = f"{path_of(kind)}/{name}?{query}"
    return server.request("PATCH", path, patch, user=user, content_type="application/merge-patch+json")


def machine_spec(**spec: Any) -> dict[str, Any]:
    domain = {"devices": {}, "cpu": {"cores": 2}, "memory": {"guest": "2Gi"}}
    volumes = [{"name": "system", "containerDisk": {"image": "pilvi.dev/node:v1.37.2"}}]
    return {"domain": domain, "volumes": volumes} | spec


def vm(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"runStrategy": "Always", "template": {"spec": machine_spec(**spec)}}}


def sized(name: str, **spec: Any) -> dict[str, Any]:
    """A VirtualMachine whose size is not in its template."""
    machine = vm(name)
    machine["spec"]["template"]["spec"]["domain"] = {"devices": {}}
    machine["spec"] |= spec
    return machine


def instancetype(**memory: Any) -> dict[str, Any]:
    return {"metadata": {"name": "plain"}, "spec": {"cpu": {"guest": 1}, "memory": {"guest": "1Gi", **memory}}}


def preference(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "plain"}, "spec": {"devices": {"preferredDiskBus": "virtio"}, **spec}}


def replica_set(labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": machine_spec()}
    return {"metadata": {"name": "plain"}, "spec": {"selector": {"matchLabels": labels or {"app": "web"}}, "template": template, **spec}}


def machine_template(name: str, **spec: Any) -> dict[str, Any]:
    template = {"virtualMachineTemplate": {"spec": {"runStrategy": "Always", "template": {"spec": machine_spec(**spec)}}}}
    check = {"virtualMachineBootstrapCheck": {"checkStrategy": "none"}}
    return {"metadata": {"name": name}, "spec": {"template": {"spec": template | check}}}


def in_namespace(namespace: str) -> dict[str, Any]:
    template = machine_template("x")
    template["spec"]["template"]["spec"]["virtualMachineTemplate"]["metadata"] = {"namespace": namespace}
    return template


def control_plane(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"version": "v1.37.2", "replicas": 1} | spec}


def tenant(name: str, **profile: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {
            "controlPlane": {"deployment": {"replicas": 1}, "service": {"serviceType": "LoadBalancer"}},
            "kubernetes": {"version": "v1.37.2", "kubelet": {}},
            "networkProfile": profile,
        },
    }


SOURCE = {"apiGroup": "kubevirt.io", "kind": "VirtualMachine", "name": "plain"}


def exported(ttlDuration: str = "1h", tokenSecretRef: str = "a", **source: str) -> dict[str, Any]:  # noqa: N803 (names of fields)
    return {
        "metadata": {"name": "x"},
        "spec": {"source": {**SOURCE, **source}, "ttlDuration": ttlDuration, "tokenSecretRef": tokenSecretRef},
    }


PLAIN = {
    "KamajiControlPlane": control_plane("plain", addons={"coreDNS": {"imageTag": "v1.14.6"}, "kubeProxy": {"imageTag": "v1.37.2-our.1"}}),
    "KamajiControlPlaneTemplate": {"metadata": {"name": "plain"}, "spec": {"template": {"spec": {"addons": {"coreDNS": {}}}}}},
    "TenantControlPlane": tenant("plain"),
    "DataStore": {"metadata": {"name": "default"}, "spec": {"driver": "etcd", "endpoints": ["etcd:2379"]}},
    "KubevirtCluster": {"metadata": {"name": "plain"}, "spec": {}},
    "KubevirtClusterTemplate": {"metadata": {"name": "plain"}, "spec": {"template": {"spec": {}}}},
    "KubevirtMachine": {"metadata": {"name": "plain"}, "spec": machine_template("plain")["spec"]["template"]["spec"]},
    "KubevirtMachineTemplate": machine_template("plain"),
    "VirtualMachine": vm("plain"),
    "VirtualMachineInstance": {"metadata": {"name": "plain"}, "spec": machine_spec()},
    "VirtualMachineInstanceReplicaSet": replica_set(replicas=0),
    "VirtualMachineInstancetype": instancetype(),
    "VirtualMachineClusterInstancetype": instancetype(overcommitPercent=50),
    "VirtualMachinePreference": preference(),
    "VirtualMachineClusterPreference": preference(cpu={"preferredCPUTopology": "preferCores"}),
    "VirtualMachineSnapshot": {"metadata": {"name": "plain"}, "spec": {"source": SOURCE}},
    "VirtualMachineSnapshotContent": {"metadata": {"name": "plain"}, "spec": {"source": {"virtualMachine": {"spec": {"running": False}}}}},
    "VirtualMachineRestore": {"metadata": {"name": "plain"}, "spec": {"target": SOURCE, "virtualMachineSnapshotName": "plain"}},
    "VirtualMachineClone": {"metadata": {"name": "plain"}, "spec": {"source": SOURCE, "labelFilters": ["*", "!a"]}},
    "VirtualMachineExport": {"metadata": {"name": "plain"}, "spec": {"source": SOURCE, "ttlDuration": "1h30m", "tokenSecretRef": "a"}},
    "Vpc": {"metadata": {"name": "plain"}, "spec": {}},
    "Subnet": {"metadata": {"name": "plain"}, "spec": {"vpc": "plain", "cidrBlock": "10.0.1.0/24", "gateway": "10.0.1.1"}},
    "VirtualMachineInstanceMigration": {"metadata": {"name": "plain"}, "spec": {"vmiName": "plain"}},
    "MigrationPolicy": {"metadata": {"name": "plain"}, "spec": {"selectors": {"virtualMachineInstanceSelector": {"app": "web"}}}},
    "IP": {"metadata": {"name": "plain.default"}, "spec": {"subnet": "plain", "ipAddress": "10.0.1.2", "v4IpAddress": "10.0.1.2"}},
    "NetworkAttachmentDefinition": {
        "metadata": {"name": "plain"},
        "spec": {"config": '{"type": "kube-ovn", "provider": "plain.default.ovn"}'},
    },
    "DataVolume": {
        "metadata": {"name": "plain"},
        "spec": {"source": {"http": {"url": "https://example.org/x"}}, "storage": {"resources": {"requests": {"storage": "1Gi"}}}},
    },
    "DataSource": {"metadata": {"name": "plain"}, "spec": {"source": {"pvc": {"name": "plain", "namespace": "default"}}}},
    "DataImportCron": {
        "metadata": {"name": "plain"},
        "spec": {
            "managedDataSource": "plain",
            "schedule": "0 3 * * *",
            "template": {
                "spec": {"source": {"registry": {"url": "docker://x/y"}}, "storage": {"resources": {"requests": {"storage": "1Gi"}}}}
            },
        },
    },
    "StorageProfile": {"metadata": {"name": "plain"}, "spec": {}},
    "CDIConfig": {
        "metadata": {"name": "plain"},
        "spec": {"importProxy": {"HTTPProxy": "http://proxy:3128"}},
    },
    "VolumeImportSource": {"metadata": {"name": "plain"}, "spec": {"source": {"blank": {}}}},
    "VolumeUploadSource": {"metadata": {"name": "plain"}, "spec": {}},
    "VolumeSnapshotClass": {"metadata": {"name": "plain"}, "driver": "local.pilvi.dev", "deletionPolicy": "Delete"},
    "VolumeSnapshot": {"metadata": {"name": "plain"}, "spec": {"source": {"persistentVolumeClaimName": "plain"}}},
    "VolumeSnapshotContent": {
        "metadata": {"name": "plain"},
        "spec": {
            "deletionPolicy": "Delete",
            "driver": "local.pilvi.dev",
            "source": {"snapshotHandle": "plain"},
            "volumeSnapshotRef": {"namespace": "default", "name": "plain"},
        },
    },
    "VolumeCloneSource": {"metadata": {"name": "plain"}, "spec": {"source": {"kind": "PersistentVolumeClaim", "name": "plain"}}},
}


# A DataStore must have endpoints, and they have no effect.
@pytest.mark.parametrize("kind", [kind.RESOURCE.kind for kind in KINDS if kind.RESOURCE.kind != "DataStore"])
def test_a_plain_object_is_taken_without_a_warning(api: ApiServer, kind: str) -> None:
    for version in (kind_of(kind).RESOURCE.version, *kind_of(kind).DEFINITION.also_served):
        answer = create(api, kind, PLAIN[kind], dry_run=True, version=version)
        assert (answer.status, answer.warnings) == (201, []), answer.message


NULLS: list[tuple[str, dict[str, Any]]] = [
    ("KamajiControlPlane", {"deployment": None, "addons": {"coreDNS": None, "kubeProxy": {}}, "apiServer": None}),
    ("KubevirtCluster", {"controlPlaneServiceTemplate": None, "sshKeys": None}),
    ("Vpc", {"namespaces": None, "staticRoutes": None}),
    ("Subnet", {"gateway": None, "excludeIps": None}),
]


@pytest.mark.parametrize(("kind", "spec"), NULLS)
def test_nulls_for_empty_values_are_dropped(api: ApiServer, kind: str, spec: dict[str, Any]) -> None:
    obj = copy.deepcopy(PLAIN[kind])
    obj["spec"] |= spec
    answer = create(api, kind, obj, dry_run=True)
    assert (answer.status, answer.warnings) == (201, []), answer.message
    assert all(name not in answer.body["spec"] for name, value in spec.items() if value is None)


def test_nulls_in_a_machine_template(api: ApiServer) -> None:
    obj = machine_template("nulls", nodeSelector=None, tolerations=None)
    template = obj["spec"]["template"]["spec"]["virtualMachineTemplate"]
    template["metadata"] = None
    template["spec"]["template"]["metadata"] = {"labels": None, "annotations": {"a": "b"}}
    answer = create(api, "KubevirtMachineTemplate", obj, dry_run=True)
    assert answer.status == 201, answer.message


def test_machines_in_the_namespace_of_their_template(api: ApiServer) -> None:
    """As Cluster API's templates for KubeVirt have it."""
    answer = create(api, "KubevirtMachineTemplate", in_namespace("default"), dry_run=True)
    assert (answer.status, answer.warnings) == (201, []), answer.message


def test_a_null_spec_is_no_spec(api: ApiServer) -> None:
    assert create(api, "Vpc", {"metadata": {"name": "null"}, "spec": None}, dry_run=True).status == 201


def test_a_misspelt_field_is_named(api: ApiServer) -> None:
    answer = create(api, "VirtualMachine", vm("misspelt", hostnam="a"), dry_run=True)
    assert answer.status == 400
    assert 'unknown field "spec.template.spec.hostnam"' in answer.message


SIZED = {"memory": {"guest": "1Gi"}}
LONG = "a" * 64
TEMPLATE = "spec.template.spec.virtualMachineTemplate.spec.template.spec"
REFUSED: list[tuple[str, dict[str, Any], list[str]]] = [
    ("KamajiControlPlane", control_plane("x", version="v1.20.0"), ["spec.version", "1.20.0", "v1.35.7, v1.36.3, v1.37.2"]),
    ("KamajiControlPlane", control_plane("x", version="latest"), ["spec.version", "latest", "v1.35.7, v1.36.3, v1.37.2"]),
    ("KamajiControlPlane", control_plane("x", replicas=-1), ["spec.replicas", "greater than or equal to 0"]),
    ("KamajiControlPlane", control_plane("x", dataStoreOverrides=[{"resource": "/events", "dataStore": "b"}]), ["dataStoreOverrides"]),
    (
        "KamajiControlPlane",
        control_plane("x", network={"ingress": {"hostname": "a.example"}}),
        ["spec.network.ingress", "Instead", "serviceType LoadBalancer"],
    ),
    (
        "KamajiControlPlane",
        control_plane("x", deployment={"extraContainers": [{"name": "a"}]}),
        ["spec.deployment.extraContainers", "not a Pod", "Instead"],
    ),
    (
        "KamajiControlPlane",
        control_plane("x", addons={"kubeProxy": {"imageTag": "latest"}}),
        ["spec.addons.kubeProxy.imageTag", "Instead: a version such as v1.37.2"],
    ),
    ("KamajiControlPlane", {"metadata": {"name": "x"}}, ["spec is missing", "version"]),
    ("TenantControlPlane", {"metadata": {"name": "x"}}, ["spec is missing", "controlPlane and kubernetes"]),
    ("TenantControlPlane", tenant(LONG), ["metadata.name", "63", "64"]),
    ("TenantControlPlane", tenant("1a"), ["metadata.name", "a letter first"]),
    ("TenantControlPlane", tenant("x", podCidr="10.96.0.0/12"), ["podCidr", "serviceCidr", "overlap"]),
    ("TenantControlPlane", tenant("x", podCidr="10.244.0.0"), ["podCidr", "10.244.0.0"]),
    ("TenantControlPlane", tenant("x", serviceCidr="fd00::/108"), ["IPv4", "fd00::/108"]),
    ("TenantControlPlane", tenant("x", podCidr="10.1.0.5/16"), ["podCidr", "10.1.0.5/16"]),
    ("TenantControlPlane", tenant("x", loadBalancerSourceRanges=["1.2.3.0/24"]), ["loadBalancerSourceRanges", "Instead"]),
    ("DataStore", {"metadata": {"name": "x"}, "spec": {"driver": "MySQL", "endpoints": ["a"]}}, ["spec.driver", "driver: etcd"]),
    (
        "KubevirtCluster",
        {"metadata": {"name": "x"}, "spec": {"infraClusterSecretRef": {"name": "a"}}},
        ["infraClusterSecretRef", "Instead"],
    ),
    ("KubevirtMachineTemplate", machine_template("x", volumes=[]), [f"{TEMPLATE}.volumes", "no image", "pilvi.dev/node"]),
    (
        "KubevirtMachineTemplate",
        machine_template("x", volumes=[{"name": "a", "cloudInitNoCloud": {"userData": "a"}}]),
        [f"{TEMPLATE}.volumes", "no image"],
    ),
    ("KubevirtMachineTemplate", machine_template("x", domain={"devices": {}, "cpu": {"cores": 0}}), ["cores", "1 or more"]),
    ("KubevirtMachine", {**PLAIN["KubevirtMachine"], "metadata": {"name": LONG}}, ["metadata.name", "63"]),
    ("VirtualMachine", vm("x", evictionStrategy="Move"), ["spec.template.spec.evictionStrategy", "no such strategy"]),
    ("KubevirtMachineTemplate", in_namespace("elsewhere"), ["virtualMachineTemplate.metadata.namespace", "Instead"]),
    ("VirtualMachine", vm("x", domain={"devices": {}, "memory": {"guest": "-1Gi"}}), ["memory.guest", "positive", "-1Gi"]),
    ("VirtualMachine", vm("x", domain={"devices": {}, "memory": {"guest": 0}}), ["memory.guest", "positive", "0"]),
    ("VirtualMachine", vm("x", domain={**SIZED, "devices": {}, "resources": {"requests": {"cpu": "0"}}}), ["positive"]),
    ("VirtualMachine", vm("x", domain={**SIZED, "devices": {"disks": [{"name": "gone"}]}}), ["no volume is called gone", "volumes"]),
    ("VirtualMachine", vm("x", domain={"devices": {"gpus": [{"name": "a"}]}}), ["devices.gpus", "Instead"]),
    ("VirtualMachine", vm("x", domain={"devices": {"interfaces": [{"name": "a", "sriov": {}}]}}), ["interfaces[].sriov", "Instead"]),
    (
        "VirtualMachine",
        vm("x", domain={"devices": {"interfaces": [{"name": "a", "pciAddress": "0000:81:01.0"}]}}),
        ["interfaces[].pciAddress", "Instead"],
    ),
    ("VirtualMachine", vm("x", volumes=[{"name": "a", "hostDisk": {"path": "/", "type": "Disk"}}]), ["volumes[].hostDisk"]),
    ("VirtualMachine", vm("x", domain={"devices": {}}), ["memory", "not given", "memory.guest"]),
    (
        "VirtualMachine",
        vm("x", volumes=[{"name": "a", "hostDisk": {"path": "/etc/shadow", "type": "Disk"}}]),
        ["volumes[].hostDisk", "reach into the host's files"],
    ),
    ("VirtualMachine", vm("x", terminationGracePeriodSeconds=-1), ["terminationGracePeriodSeconds"]),
    ("VirtualMachine", sized("x", updateVolumesStrategy="Migration"), ["updateVolumesStrategy", "Instead: Replacement"]),
    *(
        (
            "VirtualMachine",
            vm("x", domain={**SIZED, "devices": {}, "firmware": {"kernelBoot": boot}}),
            ["kernelBoot", "names no kernel", "container.kernelPath"],
        )
        for boot in ({}, {"kernelArgs": "quiet"}, {"container": {"image": "a", "initrdPath": "/i"}})
    ),
    (
        "VirtualMachine",
        vm("x", domain={**SIZED, "devices": {"disks": [{"name": "system", "lun": {"reservation": True}}]}}),
        ["lun.reservation", "Instead"],
    ),
    *(("VirtualMachine", vm("x", **spec), words) for spec, words in BAD),
    (
        "VirtualMachineSnapshot",
        {"metadata": {"name": "x"}, "spec": {"source": {"kind": "Pod", "name": "x"}}},
        ["spec.source", "kubevirt.io"],
    ),
    ("VirtualMachineSnapshot", {"metadata": {"name": "x"}, "spec": {"source": {**SOURCE, "name": "../x"}}}, ["spec.source", "no dots"]),
    (
        "VirtualMachineRestore",
        {
            "metadata": {"name": "x"},
            "spec": {"target": SOURCE, "virtualMachineSnapshotName": "x", "volumeRestoreOverrides": [{"restoreName": "x"}]},
        },
        ["volumeRestoreOverrides", "volumeName"],
    ),
    (
        "VirtualMachineClone",
        {"metadata": {"name": "x"}, "spec": {"source": SOURCE, "target": SOURCE}},
        ["spec.target.name", "another name"],
    ),
    (
        "VirtualMachineClone",
        {"metadata": {"name": "x"}, "spec": {"source": SOURCE, "labelFilters": ["a!b"]}},
        ["only at its beginning", "a!b"],
    ),
    ("VirtualMachineExport", exported(kind="VirtualMachineTemplate"), ["spec.source", "templates and backups are not served"]),
    ("VirtualMachineExport", exported(apiGroup=""), ["spec.source", "apiGroup: kubevirt.io"]),
    ("VirtualMachineExport", exported(name=""), ["spec.source.name is empty"]),
    *(
        ("VirtualMachineExport", exported(ttlDuration=wrong), ["spec.ttlDuration", "such as 30m"])
        for wrong in ("soon", "", "2h2h", "1s1m", "-1h")
    ),
    ("VirtualMachineExport", exported(tokenSecretRef=""), ["spec.tokenSecretRef is empty"]),
    ("VirtualMachine", {**vm("x"), "metadata": {"name": LONG}}, ["metadata.name", "63", "64"]),
    ("VirtualMachine", sized("x", instancetype={}), ["spec.instancetype", "either name or inferFromVolume"]),
    ("VirtualMachine", sized("x", preference={"name": ""}), ["spec.preference", "either name or inferFromVolume"]),
    ("VirtualMachine", sized("x"), ["memory", "not given"]),
    ("VirtualMachine", sized("x", instancetype={"name": "a", "inferFromVolume": "system"}), ["name and kind should be cleared"]),
    ("VirtualMachine", sized("x", instancetype={"inferFromVolume": "gone"}), ["no volume is called gone"]),
    (
        "VirtualMachine",
        sized("x", instancetype={"name": "a", "kind": "VirtualMachinePreference"}),
        ["spec.instancetype.kind", "VirtualMachineClusterInstancetype, VirtualMachineInstancetype"],
    ),
    (
        "VirtualMachine",
        sized("x", instancetype={"inferFromVolume": "system", "inferFromVolumeFailurePolicy": "Maybe"}),
        ["Maybe is not Reject or Ignore"],
    ),
    ("VirtualMachineInstancetype", instancetype(guest="no"), ["spec.memory.guest"]),
    ("VirtualMachineInstancetype", instancetype(guest="0"), ["spec.memory.guest", "positive"]),
    ("VirtualMachineInstancetype", instancetype(overcommitPercent=101), ["spec.memory.overcommitPercent", "100"]),
    (
        "VirtualMachineClusterInstancetype",
        instancetype(overcommitPercent=10, hugepages={"pageSize": "2Mi"}),
        ["should not be requested together"],
    ),
    (
        "VirtualMachineInstancetype",
        {"metadata": {"name": "x"}, "spec": {"cpu": {"guest": 0}, "memory": {"guest": "1Gi"}}},
        ["spec.cpu.guest", "1 or more"],
    ),
    ("VirtualMachinePreference", preference(cpu={"preferredCPUTopology": "nodes"}), ["nodes is not one of sockets, cores"]),
    ("VirtualMachinePreference", preference(cpu={"spreadOptions": {"across": "Nodes"}}), ["Nodes is not one of SocketsCores"]),
    ("VirtualMachinePreference", preference(cpu={"spreadOptions": {"ratio": 0}}), ["ratio must be 1 or more"]),
    ("VirtualMachineInstanceReplicaSet", replica_set({"app": "db"}), ["spec.selector does not match"]),
    ("VirtualMachineInstanceReplicaSet", replica_set(selector={}), ["spec.selector is empty"]),
    ("VirtualMachineInstanceReplicaSet", replica_set(replicas=-1), ["spec.replicas", "non-negative"]),
    ("VirtualMachineInstanceReplicaSet", replica_set(template={"spec": machine_spec()}), ["spec.selector does not match"]),
    (
        "VirtualMachineInstanceReplicaSet",
        replica_set(selector={"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
        ["spec.selector does not match"],
    ),
    ("Subnet", {"metadata": {"name": "x"}, "spec": {"cidrBlock": "10.0.0.0/24", "gateway": "10.0.1.1"}}, ["spec.gateway", "10.0.1.1"]),
    ("Subnet", {"metadata": {"name": "x"}, "spec": {"cidrBlock": "10.0.0.0/33"}}, ["spec.cidrBlock", "10.0.1.0/24"]),
    ("Subnet", {"metadata": {"name": "x"}, "spec": {}}, ["spec.cidrBlock"]),
    ("Subnet", {"metadata": {"name": "x"}, "spec": {"cidrBlock": "10.0.0.5/24"}}, ["spec.cidrBlock", "without host bits"]),
    (
        "Subnet",
        {"metadata": {"name": "x"}, "spec": {"cidrBlock": "10.0.0.0/24", "allowSubnets": ["10.0.2.0/24", "10.0.3.7/24"]}},
        ["spec.allowSubnets", "not 10.0.3.7/24"],
    ),
    ("Subnet", {"metadata": {"name": "x"}, "spec": {"cidrBlock": "10.0.0.0/24", "protocol": "Dual"}}, ["spec.protocol", "Instead"]),
    ("Subnet", {"metadata": {"name": "x"}, "spec": {"cidrBlock": "10.0.0.0/24", "acls": [{"action": "drop"}]}}, ["spec.acls", "Instead"]),
    ("Vpc", {"metadata": {"name": "x"}, "spec": {"policyRoutes": [{"action": "drop"}]}}, ["spec.policyRoutes", "Instead"]),
    ("Subnet", {"metadata": {"name": "x"}, "spec": {"cidrBlock": "10.0.0.0/24", "provider": "macvlan.a"}}, ["spec.provider", "Instead"]),
    ("NetworkAttachmentDefinition", {"metadata": {"name": "x"}, "spec": {}}, ["spec.config is empty", "x.default.ovn"]),
    ("NetworkAttachmentDefinition", {"metadata": {"name": "x.y"}, "spec": {"config": "{}"}}, ["without dots"]),
]


@pytest.mark.parametrize(("kind", "obj", "words"), REFUSED)
def test_bad_input_is_refused_with_what_to_write_instead(api: ApiServer, kind: str, obj: dict[str, Any], words: list[str]) -> None:
    answer = create(api, kind, obj, dry_run=True)
    assert answer.status in (403, 422), answer.body
    for word in words:
        assert word in answer.message


@pytest.mark.parametrize("spec", ODD)
def test_what_looks_odd_and_is_not(api: ApiServer, spec: dict[str, Any]) -> None:
    answer = create(api, "VirtualMachine", vm("x", **spec), dry_run=True)
    assert (answer.status, answer.warnings) == (201, []), answer.message


def test_a_size_by_name(api: ApiServer) -> None:
    for matcher in ({"name": "a"}, {"name": "a", "kind": "virtualmachineinstancetypes"}, {"inferFromVolume": "system"}):
        answer = create(api, "VirtualMachine", sized("named", instancetype=matcher), dry_run=True)
        assert (answer.status, answer.warnings) == (201, []), answer.message
    assert create(api, "VirtualMachine", sized("named", instancetype={"name": "a", "revisionName": "a-1"})).status == 201
    refused = update(api, "VirtualMachine", "named", {"spec": {"instancetype": {"name": "b"}}}, query="dryRun=All")
    assert "the name has changed and revisionName has not" in refused.message
    for change in ({"name": "b", "revisionName": None}, {"name": "b", "revisionName": "b-1"}, {"revisionName": "a-2"}):
        assert update(api, "VirtualMachine", "named", {"spec": {"instancetype": change}}, query="dryRun=All").status == 200


def test_a_replica_set_scales_and_keeps_its_selector(api: ApiServer) -> None:
    terms = [{"key": "app", "operator": "In", "values": ["web", "db"]}, {"key": "old", "operator": "DoesNotExist"}]
    made = {**replica_set(selector={"matchExpressions": terms}, replicas=1), "metadata": {"name": "set"}}
    assert create(api, "VirtualMachineInstanceReplicaSet", made).status == 201
    path = f"{path_of('VirtualMachineInstanceReplicaSet')}/set"
    status = {"status": {"replicas": 2, "readyReplicas": 1, "labelSelector": "app in (db,web),!old"}}
    assert api.request("PATCH", f"{path}/status", status, content_type="application/merge-patch+json").status == 200
    scale = api.request("GET", f"{path}/scale").body
    assert (scale["spec"]["replicas"], scale["status"]) == (1, {"replicas": 2, "selector": "app in (db,web),!old"})
    scaled = api.request("PATCH", f"{path}/scale", {"spec": {"replicas": 3}}, content_type="application/merge-patch+json")
    assert (scaled.status, api.request("GET", path).body["spec"]["replicas"]) == (200, 3)
    refused = update(api, "VirtualMachineInstanceReplicaSet", "set", {"spec": {"selector": {"matchLabels": {"app": "web"}}}})
    assert "spec.selector cannot change" in refused.message


@pytest.mark.parametrize("name", ["vm-kernel-boot.yaml", "vm-uefi.yaml"])
def test_examples_of_boot_are_taken_without_a_warning(api: ApiServer, name: str) -> None:
    answer = create(api, "VirtualMachine", yaml.safe_load((Path(__file__).parents[2] / "examples" / name).read_text()), dry_run=True)
    assert (answer.status, answer.warnings) == (201, []), answer.message


def test_run_strategy_and_running(api: ApiServer) -> None:
    both, neither, unknown = vm("x"), vm("x"), vm("x")
    both["spec"]["running"] = True
    del neither["spec"]["runStrategy"]
    unknown["spec"]["runStrategy"] = "Sometimes"
    assert "exactly one of" in create(api, "VirtualMachine", both, dry_run=True).message
    assert "exactly one of" in create(api, "VirtualMachine", neither, dry_run=True).message
    assert "Sometimes is not one of Always" in create(api, "VirtualMachine", unknown, dry_run=True).message
    unknown["spec"]["runStrategy"] = "WaitAsReceiver"  # KubeVirt's, for a migration
    assert "WaitAsReceiver is not one of Always" in create(api, "VirtualMachine", unknown, dry_run=True).message


WARNED: list[tuple[str, dict[str, Any], str]] = [
    ("KamajiControlPlane", control_plane("x", replicas=2), "spec.replicas has no effect: one runs"),
    ("KamajiControlPlane", control_plane("x", addons={"konnectivity": {}}), "spec.addons.konnectivity has no effect"),
    ("KamajiControlPlane", control_plane("x", registry="r.example"), "spec.registry has no effect"),
    ("KamajiControlPlane", control_plane("x", network={"serviceType": "NodePort"}), "spec.network.serviceType has no effect"),
    ("KamajiControlPlane", control_plane("x", network={"serviceType": "ClusterIP"}), "spec.network.serviceType has no effect"),
    ("KamajiControlPlane", control_plane("x", dataStoreSchema="a"), "spec.dataStoreSchema has no effect"),
    (
        "KamajiControlPlane",
        control_plane("x", apiServer={"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}),
        "spec.apiServer.resources.requests has no effect",
    ),
    ("DataStore", PLAIN["DataStore"], "spec.endpoints has no effect"),
    (
        "KubevirtCluster",
        {"metadata": {"name": "x"}, "spec": {"controlPlaneServiceTemplate": {"spec": {"type": "LoadBalancer"}}}},
        "spec.controlPlaneServiceTemplate has no effect",
    ),
    ("Subnet", {"metadata": {"name": "x"}, "spec": {"cidrBlock": "10.0.0.0/24", "enableDHCP": False}}, "spec.enableDHCP has no effect"),
    (
        "VirtualMachine",
        vm("x", domain={**SIZED, "devices": {}, "cpu": {"realtime": {}}}),
        "spec.template.spec.domain.cpu.realtime has no effect: nothing is pinned",
    ),
    (
        "VirtualMachine",
        vm("x", domain={**SIZED, "devices": {"disks": [{"name": "system", "tag": "1"}]}}),
        "spec.template.spec.domain.devices.disks[].tag has no effect",
    ),
    ("Subnet", {"metadata": {"name": "x"}, "spec": {"cidrBlock": "10.0.0.0/24", "vlan": "v"}}, "spec.vlan has no effect"),
]


@pytest.mark.parametrize(("kind", "obj", "text"), WARNED)
def test_a_field_without_effect_is_taken_with_one_warning(api: ApiServer, kind: str, obj: dict[str, Any], text: str) -> None:
    answer = create(api, kind, obj, dry_run=True)
    assert answer.status == 201, answer.message
    assert len(answer.warnings) == 1, answer.warnings
    assert text in answer.warnings[0]
    assert create(api, kind, obj, dry_run=True, user="engine").warnings == []


def test_version_changes(api: ApiServer) -> None:
    assert create(api, "KamajiControlPlane", control_plane("versions", version="1.36.3")).status == 201
    refused = update(api, "KamajiControlPlane", "versions", {"spec": {"version": "v1.38.0"}}, query="dryRun=All")
    assert "v1.35.7, v1.36.3, v1.37.2" in refused.message
    assert update(api, "KamajiControlPlane", "versions", {"spec": {"version": "v1.36.3"}}).status == 200
    assert update(api, "KamajiControlPlane", "versions", {"spec": {"version": "v1.37.2"}}).status == 200
    back = update(api, "KamajiControlPlane", "versions", {"spec": {"version": "v1.36.3"}})
    assert (back.status, "cannot go back from 1.37.2 to 1.36.3" in back.message) == (422, True)


def test_a_skipped_minor(api: ApiServer) -> None:
    obj = tenant("skip")
    obj["spec"]["kubernetes"]["version"] = "v1.35.7"
    assert create(api, "TenantControlPlane", obj).status == 201
    answer = update(api, "TenantControlPlane", "skip", {"spec": {"kubernetes": {"version": "1.37.2"}}})
    assert (answer.status, "1.35.7 to 1.37.2 skips a minor version" in answer.message) == (422, True)


def test_a_machine_template_does_not_change(api: ApiServer) -> None:
    assert create(api, "KubevirtMachineTemplate", machine_template("fixed")).status == 201
    changed = machine_template("fixed", hostname="other")
    answer = update(api, "KubevirtMachineTemplate", "fixed", {"spec": changed["spec"]})
    assert answer.status == 422
    assert "make a new KubevirtMachineTemplate with another name" in answer.message
    labels = update(api, "KubevirtMachineTemplate", "fixed", {"metadata": {"labels": {"a": "b"}}})
    assert (labels.status, labels.warnings) == (200, [])
    dry_run = {"metadata": {"annotations": {"topology.cluster.x-k8s.io/dry-run": ""}}, "spec": changed["spec"]}
    assert update(api, "KubevirtMachineTemplate", "fixed", dry_run, query="dryRun=All").status == 200
    assert update(api, "KubevirtMachineTemplate", "fixed", dry_run).status == 422


def test_only_pilvi_changes_the_spec_of_an_instance(api: ApiServer) -> None:
    assert create(api, "VirtualMachineInstance", {**PLAIN["VirtualMachineInstance"], "metadata": {"name": "run"}}).status == 201
    patch = {"spec": {"hostname": "other"}}
    refused = update(api, "VirtualMachineInstance", "run", patch)
    assert "edit the VirtualMachine" in refused.message
    assert update(api, "VirtualMachineInstance", "run", patch, user="engine").status == 200
    status = update(api, "VirtualMachineInstance", "run", {"status": {"phase": "Running"}}, user="engine")
    assert (status.status, status.body["status"]["phase"]) == (200, "Running")


def test_an_object_from_before_the_policies_can_lose_its_finalizer(api: ApiServer) -> None:
    """The policy sees deletion and lets everything through, so that whatever got in can get out."""
    obj = {**vm("leaving"), "metadata": {"name": "leaving", "finalizers": ["pilvi.dev/test"]}}
    assert create(api, "VirtualMachine", obj).status == 201
    api.request("DELETE", f"{path_of('VirtualMachine')}/leaving")
    patch = {"metadata": {"finalizers": []}, "spec": {"running": True}}
    assert update(api, "VirtualMachine", "leaving", patch).status == 200
    assert api.request("GET", f"{path_of('VirtualMachine')}/leaving").status == 404


def test_the_store_of_a_control_plane_does_not_change(api: ApiServer) -> None:
    assert create(api, "KamajiControlPlane", control_plane("store")).status == 201
    assert update(api, "KamajiControlPlane", "store", {"spec": {"dataStoreSchema": "a"}}).status == 200
    answer = update(api, "KamajiControlPlane", "store", {"spec": {"dataStoreSchema": "b"}})
    assert "spec.dataStoreSchema cannot change" in answer.message


def test_scale_and_status(api: ApiServer) -> None:
    assert create(api, "KamajiControlPlane", control_plane("scaled")).status == 201
    path = f"{path_of('KamajiControlPlane')}/scaled"
    status = {"status": {"ready": True, "version": "v1.37.2", "replicas": 1, "selector": "a=b"}}
    answer = api.request("PATCH", f"{path}/status", status, content_type="application/merge-patch+json")
    assert (answer.status, answer.body["status"]["externalManagedControlPlane"]) == (200, True)
    scale = api.request("GET", f"{path}/scale")
    assert (scale.body["spec"]["replicas"], scale.body["status"]["replicas"]) == (1, 1)


def test_explain_carries_level_and_reason(api: ApiServer) -> None:
    document = api.request("GET", "/openapi/v3/apis/controlplane.cluster.x-k8s.io/v1alpha2").body
    spec = document["components"]["schemas"]["io.x-k8s.cluster.controlplane.v1alpha2.KamajiControlPlane"]["properties"]["spec"]
    assert spec["properties"]["replicas"]["description"] == "API servers wanted. Accepted: one runs until replicas are built."
    assert "Instead: " in spec["properties"]["network"]["properties"]["ingress"]["description"]
