"""Everything that a new platform holds before its first user: kinds, policies, the ClusterClass, the default network.

Applied again at every start, so that a newer pilvi brings its kinds along; what users changed in objects of their own stays.
"""

from collections.abc import Sequence
from importlib.resources import files

import msgspec
import yaml

from pilvi.api import JsonObject
from pilvi.api.crds import all_crds, all_policies
from pilvi.host.cloud import Cloud
from pilvi.lib.hashing import short_hash

MANAGER = "pilvi-plane"


def kinds() -> list[JsonObject]:
    """Our custom resource definitions."""
    return all_crds()


def policies(cloud: Cloud, kubernetes_versions: Sequence[str]) -> list[JsonObject]:
    """The admission policies, which need the kinds to be there; `kubernetes_versions` are those that clusters may have."""
    return all_policies(kubernetes_versions, cloud.networks)


def defaults() -> list[JsonObject]:
    """Namespaces, roles, the data store and the default VPC."""
    return [*_documents("defaults.yaml"), *_documents("kubevirt-roles.yaml"), *_documents("cdi-roles.yaml"), *providers()]


def cluster_class() -> list[JsonObject]:
    """The ClusterClass `pilvi` and its templates. Cluster API's webhooks have to answer before these can be applied.

    A template cannot change, so its name ends with a hash of what is in it: the class of a newer pilvi names templates of its own.
    """
    cluster_class, *templates = _documents("cluster-class.yaml")
    names = {}
    for template in templates:
        content = msgspec.json.encode(template["spec"], order="sorted").decode()
        names[template["kind"]] = f"{template['metadata']['name']}-{short_hash(content)}"
        template["metadata"]["name"] = names[template["kind"]]
    spec = cluster_class["spec"]
    workers = [part for worker in spec["workers"]["machineDeployments"] for part in (worker["bootstrap"], worker["infrastructure"])]
    for part in (spec["infrastructure"], spec["controlPlane"], *workers):
        part["templateRef"]["name"] = names[part["templateRef"]["kind"]]
    return [cluster_class, *templates]


def providers() -> list[JsonObject]:
    """What clusterctl reads to know which Cluster API providers are installed."""
    installed = (
        ("cluster-api", "CoreProvider", "v1.14.2"),
        ("kubeadm", "BootstrapProvider", "v1.14.2"),
        ("kamaji", "ControlPlaneProvider", "v0.20.0"),
        ("kubevirt", "InfrastructureProvider", "v0.11.2"),
    )
    return [
        {
            "apiVersion": "clusterctl.cluster.x-k8s.io/v1alpha3",
            "kind": "Provider",
            "metadata": {
                "name": f"{prefix}{name}",
                "namespace": "pilvi-system",
                "labels": {
                    "cluster.x-k8s.io/provider": f"{prefix}{name}",
                    "clusterctl.cluster.x-k8s.io": "",
                    "clusterctl.cluster.x-k8s.io/core": "inventory",
                },
            },
            "providerName": name,
            "type": kind,
            "version": version,
        }
        for name, kind, version in installed
        for prefix in [_PREFIXES[kind]]
    ]


_PREFIXES = {
    "CoreProvider": "",
    "BootstrapProvider": "bootstrap-",
    "ControlPlaneProvider": "control-plane-",
    "InfrastructureProvider": "infrastructure-",
}


def _documents(name: str) -> list[JsonObject]:
    text = files("pilvi.plane").joinpath("objects", name).read_text()
    return [document for document in yaml.safe_load_all(text) if document]
