"""Container disks and kernels: from what an instance names to files on this host, pulled in the background."""

from __future__ import annotations

import base64
from typing import Any

from pilvi.api.resource import JsonObject, Key
from pilvi.errors import UserError
from pilvi.images import (
    Credentials,
    Policy,
    Pulled,
    PulledFiles,
    PullFailed,
    Pulling,
    Pulls,
    Reference,
    parse_reference,
    read_docker_config,
)
from pilvi.lib.clock import utc_now
from pilvi.providers.kubevirt.instance.scope import Caches, Scope
from pilvi.providers.kubevirt.instance.status import phase_of
from pilvi.providers.kubevirt.instance.volumes.kernel import find_kernel
from pilvi.providers.kubevirt.instance.volumes.ready import VolumeNotReady
from pilvi.providers.kubevirt.machines.volumes import BootFiles, ImageDisk

__all__ = ["ContainerDisks", "pull_policy"]

_LATER_S = 0.1
_POLICIES = ("Always", "IfNotPresent", "Never")


class ContainerDisks:
    """Resolves volumes of the kind containerDisk, and kernelBoot."""

    def __init__(self, pulls: Pulls, caches: Caches) -> None:
        self._pulls = pulls
        self._secrets = caches.secrets

    def resolve(self, scope: Scope, volume: JsonObject) -> ImageDisk:
        """The disk. Raises UserError for what a person must mend, VolumeNotReady while it is pulled and after a failed pull."""
        disk = volume["containerDisk"]
        reference = parse_reference(disk["image"])
        credentials = self._credentials(scope.key.namespace, reference, disk.get("imagePullSecret"))
        policy = _policy(scope, reference, disk.get("imagePullPolicy"))
        look = self._pulls.look(reference, policy, credentials, disk.get("path"))
        if isinstance(look, Pulled):
            return ImageDisk(str(volume["name"]), look.disk.path, look.disk.format, look.disk.size_bytes)
        raise _not_ready(look, reference)

    def resolve_kernel(self, scope: Scope) -> BootFiles | None:
        """The kernel that the instance boots, None when it boots from its disks. Raises as `resolve` does."""
        kernel = find_kernel(scope.vmi["spec"])
        if kernel is None:
            return None
        reference = parse_reference(kernel.image)
        credentials = self._credentials(scope.key.namespace, reference, kernel.pull_secret)
        look = self._pulls.look_files(reference, _policy(scope, reference, kernel.pull_policy), kernel.paths, credentials)
        if isinstance(look, PulledFiles):
            return BootFiles(look.files[0], look.files[1] if len(look.files) > 1 else None, kernel.arguments)
        raise _not_ready(look, reference)

    def _credentials(self, namespace: str, reference: Reference, secret_name: str | None) -> Credentials | None:
        if not secret_name:
            return None
        key = Key(namespace, secret_name)
        secret = self._secrets.get(key)
        if secret is None:
            raise UserError(f"pull Secret {key} does not exist", hint="make it with `kubectl create secret docker-registry`")
        content = (secret.get("data") or {}).get(".dockerconfigjson")
        if content is None:
            raise UserError(f"pull Secret {key} has no key .dockerconfigjson", hint="make it with `kubectl create secret docker-registry`")
        return read_docker_config(base64.b64decode(content)).get(reference.host)


def _not_ready(look: Pulling | PullFailed, reference: Reference) -> VolumeNotReady:
    if isinstance(look, PullFailed):
        wait_s = max((look.retry_at - utc_now()).total_seconds(), 0.0) + _LATER_S
        # kubelet's words.
        return VolumeNotReady("ErrImagePull" if look.failures == 1 else "ImagePullBackOff", look.message, wait_s, failed=True)
    share = f" ({look.done * 100 // look.total} %)" if look.total else ""
    return VolumeNotReady("ContainerCreating", f"pulling {reference}{share}")


def _policy(scope: Scope, reference: Reference, wanted: Any) -> Policy:
    """A machine that has started asks its registry for nothing newer: it keeps what it was made with."""
    policy = pull_policy(reference, wanted)
    return "IfNotPresent" if policy == "Always" and phase_of(scope.vmi) == "Running" else policy


def pull_policy(reference: Reference, wanted: Any) -> Policy:
    """What the volume says, else kubelet's default. Raises UserError."""
    if not wanted:
        return "Always" if reference.is_moving else "IfNotPresent"
    if wanted not in _POLICIES:
        raise UserError(f"imagePullPolicy is {wanted!r}", hint=f"write one of {', '.join(_POLICIES)}")
    policy: Policy = wanted
    return policy
