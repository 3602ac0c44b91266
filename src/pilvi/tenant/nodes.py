"""Tells the VPC of a tenant cluster which pods live behind which machine.

Watches the cluster's Nodes and writes each one's pod networks on the `IP` object of the machine with the Node's InternalIP;
`kubeovn/` makes a route of them in the VPC's router. Deciding is pure (`plan_pod_cidrs`), writing is one small patch per change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network

import msgspec

from pilvi.api import JsonObject, Key
from pilvi.api.builtin import NODES
from pilvi.api.kubeovn import DEFAULT_VPC, IP, Subnet
from pilvi.errors import NotFound
from pilvi.kube import Client
from pilvi.runtime import Informer, Informers, run_together

__all__ = ["NODE_ANNOTATION", "POD_CIDRS_ANNOTATION", "CidrChange", "Tenant", "follow_nodes", "plan_pod_cidrs"]

log = logging.getLogger(__name__)

POD_CIDRS_ANNOTATION = "pilvi.dev/pod-cidrs"
NODE_ANNOTATION = "pilvi.dev/node"  # <namespace>/<TenantControlPlane>/<Node>: whose the pod networks are


# A machine's IP object and its Node appear in any order; both wake the loop, this is for a signal that got lost.
RESYNC_S = 300.0


class Tenant(msgspec.Struct, frozen=True):
    """The cluster: its TenantControlPlane, the Vpc that its machines are in, its pod network."""

    key: Key
    vpc: str
    pod_cidr: IPv4Network


class CidrChange(msgspec.Struct, frozen=True):
    """Annotations of one IP object that have to change; None removes them."""

    name: str
    cidrs: str | None
    node: str | None


def plan_pod_cidrs(
    tenant: Tenant, nodes: Iterable[JsonObject], ips: Iterable[JsonObject], vpc_of_subnet: Mapping[str, str]
) -> list[CidrChange]:
    """What to write so that each machine of the tenant's VPC whose address one of its Nodes has carries that Node's pod networks.

    Nodes are written by the tenant's administrator, who may write anything: only networks inside the cluster's own pod network and
    machines of the TenantControlPlane's own namespace count, and a machine that belongs to another tenant's Node is left alone. What an
    earlier Node left behind is removed.
    """
    wanted: dict[str, tuple[str, str]] = {}
    for node in nodes:
        address, cidrs = _internal_ip(node), _pod_cidrs(node, tenant.pod_cidr)
        if address and cidrs and not node["metadata"].get("deletionTimestamp"):
            wanted[address] = (",".join(cidrs), f"{tenant.key}/{node['metadata']['name']}")
    changes = []
    for ip in ips:
        spec, annotations = ip.get("spec") or {}, ip["metadata"].get("annotations") or {}
        have = (annotations.get(POD_CIDRS_ANNOTATION), annotations.get(NODE_ANNOTATION))
        target = wanted.get(spec.get("v4IpAddress") or "")
        ours = (have[1] or "").startswith(f"{tenant.key}/")
        # The IP object of a worker is called `<machine>.<namespace>`, neither with a dot; that in another network has a longer name.
        if (
            ip["metadata"]["name"].split(".")[1:] != [tenant.key.namespace]
            or vpc_of_subnet.get(spec.get("subnet") or "") != tenant.vpc
            or (have[1] and not ours)
        ):
            target = None
        if target is not None and have != target:
            changes.append(CidrChange(ip["metadata"]["name"], *target))
        elif target is None and ours:
            changes.append(CidrChange(ip["metadata"]["name"], None, None))
    return changes


async def follow_nodes(tenant: Tenant, client: Client, platform: Informers) -> None:
    """Keep the annotations as `plan_pod_cidrs` says until cancelled. Raises what the platform API raises; a silent tenant is waited for."""
    nodes_of = Informers(client)
    nodes = nodes_of.get(NODES)
    await run_together(nodes_of.run(), _sync(tenant, nodes, platform))


async def _sync(tenant: Tenant, nodes: Informer, platform: Informers) -> None:
    ips, subnets = platform.get(IP.RESOURCE), platform.get(Subnet.RESOURCE)
    changed = asyncio.Event()
    stops = [informer.subscribe(lambda _old, _new: changed.set()) for informer in (nodes, ips, subnets)]
    try:
        for informer in (nodes, ips, subnets):
            await informer.synced.wait()
        while True:
            changed.clear()
            vpc_of_subnet = {obj["metadata"]["name"]: (obj.get("spec") or {}).get("vpc") or DEFAULT_VPC for obj in subnets.list()}
            for change in plan_pod_cidrs(tenant, nodes.list(), ips.list(), vpc_of_subnet):
                await _write(platform.client, change)
            try:
                async with asyncio.timeout(RESYNC_S):
                    await changed.wait()
            except TimeoutError:
                continue
    finally:
        for stop in stops:
            stop()


async def _write(client: Client, change: CidrChange) -> None:
    annotations = {POD_CIDRS_ANNOTATION: change.cidrs, NODE_ANNOTATION: change.node}
    try:
        await client.patch(IP.RESOURCE, Key("", change.name), {"metadata": {"annotations": annotations}})
    except NotFound:
        return  # the machine went away meanwhile
    log.info("ip=%s node=%s pod networks: %s", change.name, change.node or "-", change.cidrs or "none")


def _internal_ip(node: JsonObject) -> str | None:
    addresses = (node.get("status") or {}).get("addresses") or ()
    return next((entry["address"] for entry in addresses if entry.get("type") == "InternalIP"), None)


def _pod_cidrs(node: JsonObject, within: IPv4Network) -> list[str]:
    """The IPv4 networks of the Node's pods that lie in `within`; what is no network is left out."""
    spec = node.get("spec") or {}
    networks = []
    for text in spec.get("podCIDRs") or [spec.get("podCIDR") or ""]:
        try:
            network = IPv4Network(text)
        except ValueError:
            continue
        if network.subnet_of(within):
            networks.append(str(network))
    return networks
