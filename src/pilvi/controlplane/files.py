"""The files that a control plane's units read: key material and kubeconfigs."""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from pilvi.controlplane.components import scheduler_config
from pilvi.controlplane.keys import CA, Keys
from pilvi.controlplane.spec import ControlPlane
from pilvi.lib.files import write_atomic
from pilvi.pki import kubeconfig_by_file

VERSION_FILE = "version"
# Users that get a kubeconfig on disk: the two components, and the engine (super-admin works before any RBAC exists).
KUBECONFIG_USERS = ("controller-manager", "scheduler", "super-admin")


class File(msgspec.Struct, frozen=True):
    """One file of a control plane, for its units and for root alone."""

    path: Path
    data: bytes

    def __repr__(self) -> str:
        """Name the path only: the data may be a private key."""
        return f"File({self.path})"


def file_set(plane: ControlPlane, keys: Keys) -> list[File]:
    """Everything that `unit_specs(plane)` refers to, apart from data directories."""
    pki = plane.pki_dir
    files = [File(pki / f"{name}.crt", pair.certificate) for name, pair in keys.authorities.items()]
    # The controller manager signs kubelets' certificates, so it alone needs an authority's key.
    files.append(File(pki / f"{CA}.key", keys.authorities[CA].key))
    for name, pair in keys.leaves.items():
        files += [File(pki / f"{name}.crt", pair.certificate), File(pki / f"{name}.key", pair.key)]
    files += [File(pki / "sa.pub", keys.service_account.certificate), File(pki / "sa.key", keys.service_account.key)]
    files += [
        File(
            plane.kubeconfig(user),
            kubeconfig_by_file(
                plane.server, pki / f"{CA}.crt", pki / f"{user}.crt", pki / f"{user}.key", cluster=plane.cluster_name, user=user
            ),
        )
        for user in KUBECONFIG_USERS
    ]
    files.append(File(plane.scheduler_config, scheduler_config(plane)))
    # What this data was run with last: `pilvi kit prune` asks for it when nothing runs.
    files.append(File(plane.data_dir / VERSION_FILE, f"{plane.version}\n".encode()))
    return files


def install_files(plane: ControlPlane, files: Iterable[File]) -> frozenset[Path]:
    """Write what differs from the disk; returns the paths that changed.

    The units may read the files by their group and change nothing but etcd's data: in a folder of its own a broken component could
    plant links for whoever writes there next. Short blocking writes of a few kilobytes. Raises OSError (disk full, for one); every
    file is whole, old or new, afterwards. After a power cut some may be lost, which the next start mends: all of them are kept elsewhere.
    """
    files = list(files)
    owner = (os.geteuid(), plane.gid)
    for folder in sorted({plane.data_dir, *(file.path.parent for file in files)}):
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        os.chown(folder, *owner)
        folder.chmod(0o750)
    store = plane.data_dir / "etcd"
    store.mkdir(mode=0o700, exist_ok=True)
    os.chown(store, plane.uid, plane.gid)
    changed = set()
    for file in files:
        if not file.path.exists() or file.path.read_bytes() != file.data:
            write_atomic(file.path, file.data, mode=0o640, owner=owner, durable=False)
            changed.add(file.path)
    return frozenset(changed)
