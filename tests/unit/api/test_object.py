from __future__ import annotations

import msgspec
import pytest

from pilvi.api.capk import Endpoint, KubevirtCluster, KubevirtClusterSpec, KubevirtMachine
from pilvi.api.controlplane import KamajiControlPlane
from pilvi.api.core import ObjectMeta
from pilvi.api.kubevirt import VirtualMachine
from pilvi.api.object import decode, encode

MACHINE = {
    "apiVersion": "infrastructure.cluster.x-k8s.io/v1alpha1",
    "kind": "KubevirtMachine",
    "metadata": {"name": "a", "namespace": "b"},
    "spec": {
        "providerID": "kubevirt://a",
        "virtualMachineTemplate": {
            "spec": {
                "runStrategy": "Always",
                "template": {
                    "spec": {
                        "domain": {"devices": {}, "cpu": {"cores": 2}, "memory": {"guest": "2Gi"}, "resources": {"requests": {"cpu": 1}}},
                        "volumes": [{"name": "system", "containerDisk": {"image": "pilvi.dev/node:v1.37.2"}}],
                    }
                },
            }
        },
    },
    "status": {"initialization": {"provisioned": True}, "addresses": [{"type": "InternalIP", "address": "10.0.0.2"}]},
}


def test_what_is_decoded_encodes_to_the_same() -> None:
    assert encode(decode(KubevirtMachine, MACHINE)) == MACHINE


def test_unknown_fields_and_managed_fields_are_ignored() -> None:
    obj = {"metadata": {"name": "a", "managedFields": [{"manager": "x"}]}, "spec": {"fromTheFuture": 1}}
    assert decode(KubevirtCluster, obj) == KubevirtCluster(metadata=ObjectMeta(name="a"), spec=KubevirtClusterSpec())


def test_defaults_are_upstream_s_and_are_not_written() -> None:
    typed = decode(KamajiControlPlane, {"metadata": {"name": "a"}, "spec": {"version": "v1.37.2"}})
    assert typed.spec is not None
    assert (typed.spec.replicas, typed.spec.registry) == (2, "registry.k8s.io")
    assert encode(typed)["spec"] == {"version": "v1.37.2"}


def test_presence_is_kept() -> None:
    """An add-on that is {} is on; one that is absent is off."""
    typed = decode(KamajiControlPlane, {"metadata": {}, "spec": {"version": "v1", "addons": {"coreDNS": {}}}})
    assert typed.spec is not None
    assert typed.spec.addons is not None
    assert typed.spec.addons.core_dns is not None
    assert typed.spec.addons.kube_proxy is None
    assert encode(typed)["spec"]["addons"] == {"coreDNS": {}}


def test_nulls_of_nullable_fields() -> None:
    spec = {"running": True, "template": {"metadata": None, "spec": None}}
    assert decode(VirtualMachine, {"metadata": {"name": "a"}, "spec": spec}).spec.template.metadata is None


def test_a_wrong_type_names_its_path() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.spec\.controlPlaneEndpoint\.port"):
        decode(KubevirtCluster, {"metadata": {}, "spec": {"controlPlaneEndpoint": {"host": "a", "port": "6443"}}})


def test_objects_can_be_made_in_python() -> None:
    cluster = KubevirtCluster(
        metadata=ObjectMeta(name="a", namespace="b"), spec=KubevirtClusterSpec(control_plane_endpoint=Endpoint(host="10.0.0.1", port=6443))
    )
    assert encode(cluster) == {
        "apiVersion": "infrastructure.cluster.x-k8s.io/v1alpha1",
        "kind": "KubevirtCluster",
        "metadata": {"name": "a", "namespace": "b"},
        "spec": {"controlPlaneEndpoint": {"host": "10.0.0.1", "port": 6443}},
    }
