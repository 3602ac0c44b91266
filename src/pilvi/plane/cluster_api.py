"""Cluster API's own managers, run unchanged in the platform's namespace: the core and the kubeadm bootstrap provider."""

from pathlib import Path

import msgspec

from pilvi import kit
from pilvi.api import JsonObject
from pilvi.controlplane import ControlPlane, File, install_files
from pilvi.host.cloud import Cloud
from pilvi.host.units import HttpProbe, UnitSpec
from pilvi.pki import kubeconfig_by_file
from pilvi.plane.platform_keys import PlatformKeys


class Manager(msgspec.Struct, frozen=True):
    """One manager and the ports it has on the platform's loopback; `gates` are its feature gates."""

    unit: str
    binary: str
    webhook_port: int
    health_port: int
    diagnostics_port: int
    gates: str

    @property
    def webhook_url(self) -> str:
        """Where the platform's API server finds its webhooks."""
        return f"https://127.0.0.1:{self.webhook_port}"


CORE = Manager("capi-core", "cluster-api-core", 9443, 9440, 8081, "ClusterTopology=true")
# A manager looks at each object once a second, so that it never decides on a cache that lacks its own last write. The bootstrap provider
# makes nothing twice in any case, and the wait is three seconds of each new machine.
BOOTSTRAP = Manager(
    "capi-kubeadm-bootstrap", "cluster-api-kubeadm-bootstrap", 9444, 9441, 8082, "ClusterTopology=true,ReconcilerRateLimiting=false"
)
MANAGERS = (CORE, BOOTSTRAP)


def manifests(keys: PlatformKeys) -> list[JsonObject]:
    """Cluster API's kinds and webhook configurations, addressed to the managers of this cloud.

    clusterctl puts its label on everything that it installs, and finds by it what `clusterctl move` has to carry; so do we.
    """
    objects = kit.cluster_api_manifests(CORE.webhook_url, BOOTSTRAP.webhook_url, keys.webhook_ca.certificate)
    for obj in objects:
        obj["metadata"].setdefault("labels", {})["clusterctl.cluster.x-k8s.io"] = ""
    return objects


def install_manager_files(cloud: Cloud, plane: ControlPlane, keys: PlatformKeys) -> None:
    """Write the managers' client and webhook certificates; both reload them from disk by themselves."""
    folder = _folder(plane)
    certificate, key = webhook_certificate(plane)
    files = [
        File(folder / "client.crt", keys.cluster_api.certificate),
        File(folder / "client.key", keys.cluster_api.key),
        File(webhook_authority(plane), keys.webhook_ca.certificate),
        File(certificate, keys.webhook.certificate),
        File(key, keys.webhook.key),
        File(
            folder / "client.conf",
            kubeconfig_by_file(
                plane.server,
                plane.pki_dir / "ca.crt",
                folder / "client.crt",
                folder / "client.key",
                cluster=plane.cluster_name,
                user="cluster-api",
            ),
        ),
    ]
    install_files(plane, files)


def manager_unit(plane: ControlPlane, manager: Manager) -> UnitSpec:
    """The unit that runs one manager, as the platform's user."""
    folder = _folder(plane)
    return UnitSpec(
        name=manager.unit,
        argv=(
            str(kit.get_binary(manager.binary)),
            f"--kubeconfig={folder / 'client.conf'}",
            "--leader-elect=false",
            f"--webhook-port={manager.webhook_port}",
            f"--webhook-cert-dir={webhook_certificate(plane)[0].parent}",
            f"--health-addr=127.0.0.1:{manager.health_port}",
            f"--diagnostics-address=127.0.0.1:{manager.diagnostics_port}",
            "--insecure-diagnostics",
            f"--feature-gates={manager.gates}",
        ),
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        netns=plane.netns,
        uid=plane.uid,
        gid=plane.gid,
        cwd=folder,
        log_path=plane.log_dir / f"{manager.unit}.log",
        ready=HttpProbe(url=f"http://127.0.0.1:{manager.health_port}/readyz"),
        stop_grace_s=5.0,
    )


def webhook_certificate(plane: ControlPlane) -> tuple[Path, Path]:
    """Files of the certificate and the key of everything that the API server dials: webhooks, and the engine's aggregated API."""
    folder = _folder(plane) / "webhook"
    return folder / "tls.crt", folder / "tls.key"


def webhook_authority(plane: ControlPlane) -> Path:
    """File of the certificate that the one of `webhook_certificate` is signed by."""
    return _folder(plane) / "webhook" / "ca.crt"


def _folder(plane: ControlPlane) -> Path:
    return plane.data_dir / "cluster-api"
