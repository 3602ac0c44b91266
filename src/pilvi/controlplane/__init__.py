"""A Kubernetes control plane as data: key material, files, command lines, packet filter, order, kubeadm phases.

`plane/` runs the platform's with it, `providers/kamaji/` each tenant's. Nothing here starts a process except `run_phase`.
"""

from pilvi.controlplane.files import VERSION_FILE, File, file_set, install_files
from pilvi.controlplane.filter import control_plane_filter, public_rules
from pilvi.controlplane.keys import AUTHORITIES, LEAVES, Keys, create_authorities, create_keys, issue_leaf, renew_leaves
from pilvi.controlplane.kubeadm import (
    ADDON_COREDNS,
    ADDON_KUBE_PROXY,
    BOOTSTRAP_TOKEN,
    COREDNS_PATCH,
    UPLOAD_CONFIG,
    AddonImage,
    KubeadmOptions,
    kubeadm_config,
    run_phase,
)
from pilvi.controlplane.spec import API_SERVER, COMPONENTS, CONTROLLER_MANAGER, ETCD, SCHEDULER, ControlPlane, Flags
from pilvi.controlplane.units import FIRST_COMPONENTS, LATER_COMPONENTS, serving_probe, unit_names, unit_spec

__all__ = [
    "ADDON_COREDNS",
    "ADDON_KUBE_PROXY",
    "API_SERVER",
    "AUTHORITIES",
    "BOOTSTRAP_TOKEN",
    "COMPONENTS",
    "CONTROLLER_MANAGER",
    "COREDNS_PATCH",
    "ETCD",
    "FIRST_COMPONENTS",
    "LATER_COMPONENTS",
    "LEAVES",
    "SCHEDULER",
    "UPLOAD_CONFIG",
    "VERSION_FILE",
    "AddonImage",
    "ControlPlane",
    "File",
    "Flags",
    "Keys",
    "KubeadmOptions",
    "control_plane_filter",
    "create_authorities",
    "create_keys",
    "file_set",
    "install_files",
    "issue_leaf",
    "kubeadm_config",
    "public_rules",
    "renew_leaves",
    "run_phase",
    "serving_probe",
    "unit_names",
    "unit_spec",
]
