"""All objects that one pass over a VirtualMachineInstance looks at, read once from the caches."""

from __future__ import annotations

from dataclasses import dataclass

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CONFIG_MAPS, NODES, PODS, SECRETS
from pilvi.api.builtin import PERSISTENT_VOLUME_CLAIMS as CLAIMS
from pilvi.api.builtin import PERSISTENT_VOLUMES as VOLUMES
from pilvi.api.kubeovn import DEFAULT_VPC
from pilvi.providers.attachments import Attachment, find_attachments, ip_key
from pilvi.providers.kubevirt.instance.network import Link
from pilvi.providers.kubevirt.kinds import DATA_VOLUMES, INSTANCES, IPS, MACHINES, SUBNETS, VPCS
from pilvi.providers.kubevirt.migration.state import active_pod
from pilvi.runtime import Informers

__all__ = ["Caches", "Scope"]


@dataclass(frozen=True)
class Scope:
    """One instance and what belongs to it; None for what does not exist (yet). `links` are its interfaces, absent ones too."""

    vmi: JsonObject
    pod: JsonObject | None
    links: tuple[Link, ...]

    @property
    def key(self) -> Key:
        """The instance's key."""
        return Key.of(self.vmi)

    @property
    def uid(self) -> str:
        """The instance's UID, which names its machine."""
        return str(self.vmi["metadata"]["uid"])

    @property
    def grace_s(self) -> float:
        """How long the guest may take to power off."""
        grace = self.vmi["spec"].get("terminationGracePeriodSeconds")
        return 30.0 if grace is None else float(grace)


class Caches:
    """The informers that the instance controller reads."""

    def __init__(self, informers: Informers) -> None:
        self.instances = informers.get(INSTANCES)
        self.machines = informers.get(MACHINES)
        self.secrets = informers.get(SECRETS)
        self.config_maps = informers.get(CONFIG_MAPS)
        self.nodes = informers.get(NODES)
        self.claims = informers.get(CLAIMS)
        self.volumes = informers.get(VOLUMES)
        self.data_volumes = informers.get(DATA_VOLUMES)
        self._pods = informers.get(PODS)
        self._ips = informers.get(IPS)
        self._subnets = informers.get(SUBNETS)
        self._vpcs = informers.get(VPCS)

    def find_scope(self, key: Key) -> Scope | None:
        """What there is of instance `key`; None when it does not exist."""
        vmi = self.instances.get(key)
        if vmi is None:
            return None
        pod = self._pods.get(Key(key.namespace, active_pod(vmi)))
        attachments = find_attachments(vmi.get("spec") or {}, key.namespace)
        return Scope(vmi, pod, tuple(self._find_link(key, attachment) for attachment in attachments))

    def _find_link(self, key: Key, attachment: Attachment) -> Link:
        ip = self._ips.get(ip_key(key, attachment.provider))
        if ip is not None and ip["metadata"].get("deletionTimestamp"):
            ip = None
        subnet = self._subnets.get(Key("", (ip.get("spec") or {}).get("subnet") or "")) if ip is not None else None
        vpc = self._vpcs.get(Key("", ((subnet.get("spec") or {}).get("vpc") or DEFAULT_VPC))) if subnet is not None else None
        return Link(attachment, ip, subnet, vpc)
