"""Turns each KubevirtMachine into a VirtualMachine and reports what becomes of it.

Every input is watched, so nothing here waits: a pass ends with the reason of what is missing, and the change of that wakes the
next one. The deletion asks for nothing but the machine itself, so it ends without a Cluster, without a tenant, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import CLUSTERS, MACHINES, SECRETS
from pilvi.errors import AlreadyExists, Forbidden, Invalid, format_chain
from pilvi.lib.clock import utc_now
from pilvi.providers.capk.contract import cluster_key, find_owner, is_paused
from pilvi.providers.capk.machine.status import Progress, find_terminal, plan_status
from pilvi.providers.capk.machine.virtualmachine import PROVIDER_ID, is_control_plane, new_user_data_secret, new_virtual_machine
from pilvi.providers.capk.names import (
    INSTANCES,
    KUBEVIRT_CLUSTERS,
    KUBEVIRT_MACHINES,
    MACHINE_FINALIZER,
    SUBNET,
    VIRTUAL_MACHINES,
)
from pilvi.providers.platform import Platform
from pilvi.providers.status import write_status
from pilvi.runtime import (
    Done,
    Failed,
    Result,
    Waiting,
    controller_of,
    ensure_finalizer,
    has_finalizer,
    is_controlled_by,
    is_deleting,
    is_true,
    remove_finalizer,
)

__all__ = ["KubevirtMachines"]

MANAGER = "pilvi-kubevirtmachine"
BOOTSTRAP_SECRET_TYPE = "cluster.x-k8s.io/secret"  # noqa: S105 (a type, no password)


@dataclass(frozen=True)
class _Inputs:
    """All that has to be there before a machine is made."""

    machine: JsonObject
    cluster: JsonObject
    bootstrap: JsonObject
    subnet: str


class KubevirtMachines:
    """The reconciler of KubevirtMachine."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client
        self._events = platform.events
        informers = platform.informers
        self._kubevirt_machines = informers.get(KUBEVIRT_MACHINES)
        self._kubevirt_clusters = informers.get(KUBEVIRT_CLUSTERS)
        self._clusters = informers.get(CLUSTERS)
        self._machines = informers.get(MACHINES)
        self._vms = informers.get(VIRTUAL_MACHINES)
        self._vmis = informers.get(INSTANCES)
        self._secrets = informers.get(SECRETS)

    async def reconcile(self, key: Key) -> Result:
        """One pass for the KubevirtMachine `key`."""
        kubevirt_machine = self._kubevirt_machines.get(key)
        if kubevirt_machine is None:
            return Done()
        owner = find_owner(kubevirt_machine, "Machine")
        machine = self._machines.get(owner) if owner is not None else None
        cluster = self._find_cluster(kubevirt_machine, machine)
        # Cluster API's contract: pause stops everything, deletion too. Of a Cluster that is gone nothing is paused any more.
        if is_paused(kubevirt_machine, cluster):
            await self._report(kubevirt_machine, Progress(paused=True))
            return Done()
        if is_deleting(kubevirt_machine):
            return await self._delete(kubevirt_machine)
        kubevirt_machine = await ensure_finalizer(self._client, KUBEVIRT_MACHINES, kubevirt_machine, MACHINE_FINALIZER)
        vm, vmi = self._find_vm(kubevirt_machine)
        if vm is not None:
            return await self._follow(kubevirt_machine, machine, vm, vmi)
        inputs = self._find_inputs(machine, cluster)
        if not isinstance(inputs, _Inputs):
            await self._report(kubevirt_machine, Progress(waiting=inputs))
            return Done()
        return await self._make(kubevirt_machine, inputs)

    # Making the machine

    def _find_inputs(self, machine: JsonObject | None, cluster: JsonObject | None) -> _Inputs | tuple[str, str]:
        """Everything needed, or reason and message of the first that is missing."""
        if machine is None:
            return "WaitingForMachine", "no Cluster API Machine owns this object yet"
        if cluster is None:
            return "WaitingForClusterInfrastructure", "the Machine's Cluster does not exist"
        status = cluster.get("status") or {}
        if not (status.get("initialization") or {}).get("infrastructureProvisioned"):
            return "WaitingForClusterInfrastructure", "the Cluster's infrastructure is not provisioned yet"
        bootstrap = self._find_bootstrap_data(machine)
        if bootstrap is None:
            if not is_control_plane(machine) and not (status.get("initialization") or {}).get("controlPlaneInitialized"):
                return "WaitingForControlPlaneAvailable", "the Cluster's control plane is not initialized yet"
            return "WaitingForBootstrapData", "the bootstrap provider has not written the Machine's bootstrap data yet"
        if "value" not in (bootstrap.get("data") or {}):
            return "WaitingForBootstrapData", f"Secret {Key.of(bootstrap)} with the bootstrap data has no key value"
        subnet = self._find_subnet(cluster)
        if subnet is None:
            return "WaitingForClusterInfrastructure", "the KubevirtCluster has no Subnet yet; see its condition NetworkReady"
        return _Inputs(machine, cluster, bootstrap, subnet)

    def _find_bootstrap_data(self, machine: JsonObject) -> JsonObject | None:
        """The Secret that the Machine names or, a second earlier, the one that its bootstrap provider has made for it.

        Cluster API copies the name from the one to the other, and looks at a Machine once a second.
        """
        wanted: JsonObject = machine["spec"].get("bootstrap") or {}
        namespace = machine["metadata"]["namespace"]
        if wanted.get("dataSecretName"):
            return self._secrets.get(Key(namespace, wanted["dataSecretName"]))
        config: JsonObject = wanted.get("configRef") or {}
        secret = self._secrets.get(Key(namespace, config.get("name") or ""))
        if secret is None or secret.get("type") != BOOTSTRAP_SECRET_TYPE:
            return None
        owner = controller_of(secret)
        is_its = owner is not None and (owner["kind"], owner["name"]) == (config.get("kind"), config.get("name"))
        return secret if is_its else None

    async def _make(self, kubevirt_machine: JsonObject, inputs: _Inputs) -> Result:
        cluster_name = inputs.cluster["metadata"]["name"]
        secret = new_user_data_secret(kubevirt_machine, inputs.bootstrap, cluster_name)
        vm = new_virtual_machine(kubevirt_machine, inputs.machine, cluster_name, secret["metadata"]["name"], inputs.subnet)
        try:
            # The Secret first: the instance reads it as soon as the machine exists.
            await self._client.apply(SECRETS, secret, manager=MANAGER)
            created = await self._client.create(VIRTUAL_MACHINES, vm)
        except AlreadyExists:
            message = f"a VirtualMachine {vm['metadata']['name']} that is not this machine's is in the way; delete it"
            await self._report(kubevirt_machine, Progress(waiting=("VMCreateFailed", message)))
            return Failed(message)
        except (Forbidden, Invalid) as e:
            message = f"the VirtualMachine cannot be made: {format_chain(e)}"
            await self._report(kubevirt_machine, Progress(waiting=("VMCreateFailed", message)))
            self._events.record(kubevirt_machine, "Warning", "VMCreateFailed", message)
            return Failed(message)
        self._events.record(kubevirt_machine, "Normal", "VMCreated", f"Created VirtualMachine {vm['metadata']['name']}")
        await self._report(kubevirt_machine, Progress(vm=created))
        return Done()

    # Following the machine

    async def _follow(self, kubevirt_machine: JsonObject, machine: JsonObject | None, vm: JsonObject, vmi: JsonObject | None) -> Result:
        node_known = bool(((machine or {}).get("status") or {}).get("nodeRef"))
        progress = Progress(vm=vm, vmi=vmi, node_known=node_known)
        if progress.running and not (kubevirt_machine.get("spec") or {}).get("providerID"):
            # Before the status: Cluster API reads the id as soon as the machine says that it is provisioned.
            body = {
                "metadata": {"resourceVersion": kubevirt_machine["metadata"]["resourceVersion"]},
                "spec": {"providerID": f"{PROVIDER_ID}{kubevirt_machine['metadata']['name']}"},
            }
            kubevirt_machine = await self._client.patch(KUBEVIRT_MACHINES, Key.of(kubevirt_machine), body)
        terminal = find_terminal(vm, vmi)
        if terminal is not None and (kubevirt_machine.get("status") or {}).get("failureMessage") != terminal:
            self._events.record(kubevirt_machine, "Warning", "VMTerminal", terminal)
        await self._report(kubevirt_machine, progress)
        return Done()

    # Deletion

    async def _delete(self, kubevirt_machine: JsonObject) -> Result:
        if not has_finalizer(kubevirt_machine, MACHINE_FINALIZER):
            return Done()
        key = Key.of(kubevirt_machine)
        vm, vmi = self._find_vm(kubevirt_machine)
        if vm is not None or vmi is not None:
            if vm is not None and not is_deleting(vm):
                await self._client.ensure_absent(VIRTUAL_MACHINES, key, uid=vm["metadata"]["uid"])
            await self._report(kubevirt_machine, Progress(vm=vm, vmi=vmi, deleting=True))
            return Waiting("Deleting", f"VirtualMachine {key} is being removed")
        await self._remove_user_data(kubevirt_machine)
        await remove_finalizer(self._client, KUBEVIRT_MACHINES, kubevirt_machine, MACHINE_FINALIZER)
        return Done()

    async def _remove_user_data(self, kubevirt_machine: JsonObject) -> None:
        """The join token in it is of no use any more. The garbage collector would do it too, but later."""
        namespace = kubevirt_machine["metadata"]["namespace"]
        for secret in self._secrets.list(namespace):
            if is_controlled_by(secret, kubevirt_machine):
                await self._client.ensure_absent(SECRETS, Key.of(secret), uid=secret["metadata"]["uid"])

    # Looking things up

    def _find_vm(self, kubevirt_machine: JsonObject) -> tuple[JsonObject | None, JsonObject | None]:
        """The VirtualMachine of this KubevirtMachine and its instance; others of the same name do not count."""
        key = Key.of(kubevirt_machine)
        vm, vmi = self._vms.get(key), self._vmis.get(key)
        if vm is not None and not is_controlled_by(vm, kubevirt_machine):
            return None, None
        if vmi is not None and (vm is None or not is_controlled_by(vmi, vm)):
            # An instance that outlives its machine is awaited as well, if it was made for this one.
            labels = vmi["metadata"].get("labels") or {}
            if vm is not None or labels.get("kubevirt.io/vm") != key.name:
                return vm, None
        return vm, vmi

    def _find_cluster(self, kubevirt_machine: JsonObject, machine: JsonObject | None) -> JsonObject | None:
        key = cluster_key(machine) if machine is not None else None
        key = key or cluster_key(kubevirt_machine)
        return self._clusters.get(key) if key is not None else None

    def _find_subnet(self, cluster: JsonObject) -> str | None:
        reference = (cluster.get("spec") or {}).get("infrastructureRef") or {}
        if not reference.get("name"):
            return None
        kubevirt_cluster = self._kubevirt_clusters.get(Key(cluster["metadata"]["namespace"], reference["name"]))
        annotations = (kubevirt_cluster or {}).get("metadata", {}).get("annotations") or {}
        subnet: str | None = annotations.get(SUBNET)
        return subnet if kubevirt_cluster is not None and is_true(kubevirt_cluster, "NetworkReady") else None

    async def _report(self, kubevirt_machine: JsonObject, progress: Progress) -> None:
        await write_status(self._client, KUBEVIRT_MACHINES, kubevirt_machine, plan_status(kubevirt_machine, progress, utc_now()))
