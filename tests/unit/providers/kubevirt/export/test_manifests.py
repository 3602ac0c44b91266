"""What the manifests of an export make elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.export.contents import Held, Volume
from pilvi.providers.kubevirt.export.manifests import machine_manifests
from tests.unit.providers.kubevirt.export.scene import make_export, make_vm

URL = "https://10.250.0.2:9448/api/x/out"
HTTP = {"url": f"{URL}/volumes/out-disk/disk.img.gz", "certConfigMap": "export-ca-cm-out", "secretExtraHeaders": ["header-secret-out"]}
GIB = 1 << 30


def manifests(vm: JsonObject) -> list[JsonObject]:
    held = Held((Volume("out-disk", "disk", "uid", Path("/x"), 2 * GIB),), made_of=vm)
    claim = {
        "metadata": {"name": "out-disk"},
        "spec": {"accessModes": ["ReadWriteMany"], "volumeMode": "Block", "storageClassName": "local"},
    }
    return machine_manifests(make_export(), held, vm, {"out-disk": claim}, url=URL, authority="PEM")


def test_a_disk_that_no_template_makes_gets_a_data_volume_of_its_name() -> None:
    vm = make_vm({"name": "root", "persistentVolumeClaim": {"claimName": "disk"}})
    vm["metadata"] |= {"labels": {"app": "web"}, "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x", "note": "kept"}}
    vm["status"] = {"created": True}
    certificates, machine, disk = manifests(vm)
    assert certificates == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "export-ca-cm-out"}, "data": {"ca.pem": "PEM"}}
    metadata = {"name": "web", "labels": {"app": "web"}, "annotations": {"note": "kept"}}
    assert machine == {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": metadata, "spec": vm["spec"]}
    storage = {"accessModes": ["ReadWriteMany"], "volumeMode": "Block", "resources": {"requests": {"storage": str(2 * GIB)}}}
    assert disk == {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": "disk"},
        "spec": {"source": {"http": HTTP}, "storage": storage},
    }
    assert "kubectl.kubernetes.io/last-applied-configuration" in vm["metadata"]["annotations"], "what is cached is left alone"


TEMPLATES: list[tuple[JsonObject, JsonObject]] = [
    (
        {
            "source": {"pvc": {"namespace": "a", "name": "b"}},
            "storage": {"storageClassName": "fast", "resources": {"requests": {"storage": "3Gi"}}},
        },
        {"storage": {"storageClassName": "fast", "resources": {"requests": {"storage": "3Gi"}}}},
    ),
    (
        {"sourceRef": {"kind": "DataSource", "name": "b"}, "storage": {}, "contentType": "kubevirt"},
        {"storage": {"resources": {"requests": {"storage": str(2 * GIB)}}}, "contentType": "kubevirt"},
    ),
    (
        {"source": {"blank": {}}, "pvc": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
        {"pvc": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": str(2 * GIB)}}}},
    ),
]


@pytest.mark.parametrize(("template", "expected"), TEMPLATES)
def test_a_template_gets_another_source_and_room_for_the_disk(template: JsonObject, expected: JsonObject) -> None:
    other: dict[str, Any] = {"metadata": {"name": "other"}, "spec": {"source": {"blank": {}}}}
    vm = make_vm(
        {"name": "root", "dataVolume": {"name": "disk"}}, dataVolumeTemplates=[{"metadata": {"name": "disk"}, "spec": template}, other]
    )
    _, machine = manifests(vm)
    assert machine["spec"]["dataVolumeTemplates"] == [{"metadata": {"name": "disk"}, "spec": {"source": {"http": HTTP}, **expected}}, other]
