"""kubeadm's own phases, run against a control plane that answers: what `kubeadm join` and every node need to find in it.

The phases come from the kubeadm of the control plane's version, so ConfigMaps, RBAC and add-ons are upstream's for that
release. Called by `providers/kamaji/`; the platform's plane has no nodes that join.
"""

import tempfile
from pathlib import Path

import msgspec
import yaml

from pilvi import kit
from pilvi.controlplane.spec import ControlPlane
from pilvi.lib.run import run

PHASE_TIMEOUT_S = 60.0

UPLOAD_CONFIG = ("upload-config", "all")
BOOTSTRAP_TOKEN = ("bootstrap-token",)
ADDON_KUBE_PROXY = ("addon", "kube-proxy")
ADDON_COREDNS = ("addon", "coredns")


class AddonImage(msgspec.Struct, frozen=True):
    """Where an add-on's image comes from, when not from upstream's default."""

    repository: str | None = None
    tag: str | None = None


class KubeadmOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the phases write beyond the control plane's own facts.

    `kubelet` holds fields of KubeletConfiguration for all nodes. The images are those of the add-ons.
    """

    kubelet: dict[str, object] = {}
    dns_image: AddonImage = AddonImage()
    proxy_image: AddonImage = AddonImage()


def kubeadm_config(plane: ControlPlane, options: KubeadmOptions, phase: tuple[str, ...] = (), patches: Path | None = None) -> str:
    """The configuration documents for `kubeadm init phase PHASE --config`, as YAML. `patches` is the folder of kubeadm's patches."""
    cluster: dict[str, object] = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": plane.cluster_name,
        "kubernetesVersion": plane.version,
        "controlPlaneEndpoint": plane.endpoint,
        "certificatesDir": "/etc/kubernetes/pki",
        "encryptionAlgorithm": "ECDSA-P256",
        "networking": {
            "dnsDomain": plane.cluster_domain,
            "serviceSubnet": str(plane.service_cidr),
            **({"podSubnet": str(plane.pod_cidr)} if plane.pod_cidr else {}),
        },
    }
    dns = {"imageRepository": options.dns_image.repository, "imageTag": options.dns_image.tag}
    if any(dns.values()):
        cluster["dns"] = {key: value for key, value in dns.items() if value}
    if phase == ADDON_KUBE_PROXY:
        # kubeadm has no field for this image: it is made of the repository and the version of the whole cluster.
        proxy = {"imageRepository": options.proxy_image.repository, "kubernetesVersion": options.proxy_image.tag}
        cluster |= {key: value for key, value in proxy.items() if value}
    documents = [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": str(plane.advertise_address or plane.address), "bindPort": plane.port},
            # Joining nodes bring tokens of their own; the one that kubeadm makes here in any case ends soon.
            "bootstrapTokens": [{"ttl": "1m0s"}],
            "nodeRegistration": {"name": "none", "criSocket": "unix:///run/containerd/containerd.sock"},
            **({"patches": {"directory": str(patches)}} if patches else {}),
        },
        cluster,
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "clusterDNS": [str(address) for address in plane.dns_addresses or (plane.dns_address,)],
            "clusterDomain": plane.cluster_domain,
            **options.kubelet,
        },
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            **({"clusterCIDR": str(plane.pod_cidr)} if plane.pod_cidr else {}),
            # Sandboxes share the host's conntrack table, whose size is the host's matter.
            "conntrack": {"maxPerCore": 0, "min": 0},
        },
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


# A kubelet that has just begun waits for up to a whole period before it asks for the first time: the first DNS of a cluster would be
# called ready 5 s late on average.
COREDNS_PATCH = """\
spec:
  template:
    spec:
      containers:
        - name: coredns
          readinessProbe: {periodSeconds: 1, failureThreshold: 10}
"""


async def run_phase(plane: ControlPlane, kubeconfig: Path, options: KubeadmOptions, phase: tuple[str, ...]) -> None:
    """Run one `kubeadm init phase`; may be called repeatedly.

    `kubeconfig` must be of a cluster administrator. Raises DriverError with kubeadm's last lines.
    """
    with tempfile.TemporaryDirectory(prefix="pilvi-kubeadm-") as folder:
        config = Path(folder) / "config.yaml"
        patches = Path(folder) / "patches"
        patches.mkdir()
        (patches / "corednsdeployment+strategic.yaml").write_text(COREDNS_PATCH)
        config.write_text(kubeadm_config(plane, options, phase, patches))
        argv = [str(kit.get_binary("kubeadm", plane.version)), "init", "phase", *phase, f"--config={config}", f"--kubeconfig={kubeconfig}"]
        await run(argv, timeout_s=PHASE_TIMEOUT_S)
