"""The platform's control plane: the one API that users of this cloud talk to."""

from collections.abc import Mapping
from ipaddress import IPv4Network

from pilvi import kit
from pilvi.controlplane import ControlPlane, Flags
from pilvi.host.cloud import Cloud

UNIT_PREFIX = "plane"
CLUSTER_NAME = "pilvi"

# The platform's Services are never translated on a node, so their range only has to differ from the cloud's own addresses.
SERVICE_CIDR = IPv4Network("10.112.0.0/16")


def platform_control_plane(cloud: Cloud, extra_flags: Mapping[str, Flags] | None = None) -> ControlPlane:
    """What the platform's control plane is made of, in the newest Kubernetes version that the kit has.

    `extra_flags` maps a component to flags that replace ours of the same name or are added.
    """
    return ControlPlane(
        name=UNIT_PREFIX,
        cluster_name=CLUSTER_NAME,
        version=kit.kubernetes_versions()[-1],
        netns=cloud.netns("plane"),
        address=cloud.platform_address.ip,
        uid=cloud.uid_base,
        gid=cloud.uid_base,
        data_dir=cloud.home / "plane",
        log_dir=cloud.home / "logs",
        # Virtual hosts have no pods of their own, so nobody needs a pod range.
        pod_cidr=None,
        service_cidr=SERVICE_CIDR,
        controllers=("*",),
        extra_flags=dict(extra_flags or {}),
    )
