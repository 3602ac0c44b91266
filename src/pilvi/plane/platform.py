"""The platform's control plane: the one API that users of this cloud talk to."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network

import msgspec

from pilvi import kit
from pilvi.controlplane import ControlPlane, Flags
from pilvi.errors import UserError
from pilvi.host.cloud import Cloud, save_cloud
from pilvi.kit.store import BUILD_HINT
from pilvi.lib.versions import find_newest_step

UNIT_PREFIX = "plane"
CLUSTER_NAME = "pilvi"

# The platform's Services are never translated on a node, so their range only has to differ from the cloud's own addresses.
SERVICE_CIDR = IPv4Network("10.112.0.0/16")

# Checks the types in admission policies and writes warnings into their status. For ours, which are tested, it takes a second of the API
# server's time at every first start and 50 MB of its memory for good, since all the OpenAPI documents are put together for it.
_TYPE_CHECKER = "validatingadmissionpolicy-status-controller"


def platform_control_plane(cloud: Cloud, extra_flags: Mapping[str, Flags] | None = None) -> ControlPlane:
    """What the platform's control plane is made of, in the Kubernetes version that `up` has chosen (`settle_version`).

    `extra_flags` maps a component to flags that replace ours of the same name or are added.
    """
    return ControlPlane(
        name=UNIT_PREFIX,
        cluster_name=CLUSTER_NAME,
        version=cloud.kubernetes or kit.kubernetes_versions()[-1],
        netns=cloud.netns("plane"),
        address=cloud.platform_address.ip,
        uid=cloud.uid_base,
        gid=cloud.uid_base,
        data_dir=cloud.home / "plane",
        log_dir=cloud.home / "logs",
        # Virtual hosts have no pods of their own, so nobody needs a pod range.
        pod_cidr=None,
        service_cidr=SERVICE_CIDR,
        controllers=("*", f"-{_TYPE_CHECKER}"),
        extra_flags=dict(extra_flags or {}),
    )


def settle_version(cloud: Cloud) -> Cloud:
    """Choose the Kubernetes version that the platform runs from now on, and keep it in the home. Called by `up` alone.

    An engine that is started again, by whatever, never changes the version: an upgrade is for a person to see. Raises UserError when
    the kit has none that may follow the present one.
    """
    version = choose_version(cloud, kit.built_versions(), is_present=bool(cloud.kubernetes) and kit.has_kubernetes(cloud.kubernetes))
    if version == cloud.kubernetes:
        return cloud
    settled = msgspec.structs.replace(cloud, kubernetes=version)
    save_cloud(settled)
    return settled


def choose_version(cloud: Cloud, built: Sequence[str], *, is_present: bool) -> str:
    """The newest of `built` that the platform may go to, else the one that it has when that `is_present`. Pure. Raises UserError."""
    current = cloud.kubernetes
    if not built and not is_present:
        raise UserError("no Kubernetes is built here", hint=BUILD_HINT)
    if not current:
        return built[-1]
    step = find_newest_step(current, built)
    if step is not None or is_present:
        return step or current
    raise UserError(
        f"the platform of the cloud in {cloud.home} runs Kubernetes {current}; it cannot go back or skip a minor, and the kit has only"
        f" {', '.join(built)}",
        hint=f"use a pilvi whose kit has {current} or the minor after it (pilvi kit import FILE brings a kit along)",
    )
