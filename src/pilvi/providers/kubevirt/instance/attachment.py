"""The Pods that stand for disks which can come and go while their machine runs, one for each. Pure.

A Pod cannot be given another claim once it is there, so the claims of such disks are not among those of the virt-launcher Pod. An
attachment Pod has what a Pod alone brings: the claim is bound for it, is not deleted under it, and is seen to be in use by whoever wants
to copy it.
KubeVirt has such Pods too (`hp-volume-...`). Nothing runs in them, and their image is never pulled.
"""

from __future__ import annotations

from pilvi.api.resource import JsonObject
from pilvi.lib.hashing import short_hash
from pilvi.providers.kubevirt.instance.pod import CREATED_BY, RESTRICTED, TOLERATIONS
from pilvi.providers.kubevirt.instance.volumes.claim import NamedClaim

__all__ = ["ATTACHMENT", "VOLUME_ANNOTATION", "attachment_name", "new_attachment", "volume_of"]

ATTACHMENT = {"kubevirt.io": "hotplug-disk"}
VOLUME_ANNOTATION = "pilvi.dev/volume-name"
IMAGE = "pilvi.dev/attachment"
"""What stands for an image: a Pod must name one."""


def attachment_name(vmi: JsonObject, volume: str) -> str:
    """The name of the Pod for that volume; making it twice makes one."""
    return f"hp-volume-{short_hash(vmi['metadata']['uid'] + volume)}"


def volume_of(pod: JsonObject) -> str | None:
    """The volume that an attachment Pod stands for; None for other Pods."""
    name: str | None = (pod["metadata"].get("annotations") or {}).get(VOLUME_ANNOTATION)
    return name


def new_attachment(vmi: JsonObject, volume: str, claim: NamedClaim, host: str) -> JsonObject:
    """The Pod for `volume` of `vmi`, whose machine runs on the virtual host `host`."""
    metadata = vmi["metadata"]
    source = {"claimName": claim.name, **({"readOnly": True} if claim.read_only else {})}
    return {
        "metadata": {
            "name": attachment_name(vmi, volume),
            "namespace": metadata["namespace"],
            "labels": {**ATTACHMENT, CREATED_BY: metadata["uid"]},
            "annotations": {VOLUME_ANNOTATION: volume},
            "ownerReferences": [
                {
                    "apiVersion": "kubevirt.io/v1",
                    "kind": "VirtualMachineInstance",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "containers": [
                {
                    "name": "hotplug-disk",
                    "image": IMAGE,
                    "imagePullPolicy": "Never",
                    # A namespace with a quota may ask each Pod to name some.
                    "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
                    "securityContext": RESTRICTED,
                }
            ],
            "volumes": [{"name": "disk", "persistentVolumeClaim": source}],
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            # It goes at once: what has to be awaited is the guest, and that is done before it is deleted.
            "terminationGracePeriodSeconds": 0,
            "tolerations": [*((vmi.get("spec") or {}).get("tolerations") or []), *TOLERATIONS],
            "nodeSelector": {"kubernetes.io/hostname": host},
        },
    }
