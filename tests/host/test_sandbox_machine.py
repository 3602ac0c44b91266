"""The sandbox backend with a real node image: one machine from its first start to its removal, and what a crash leaves."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilvi import kit
from pilvi.host.cloud import Cloud
from pilvi.host.netns import ensure_netns, in_netns, list_netns
from pilvi.host.network import Address, Bridge, NamespaceNetwork, delete_netns, ensure_network, list_links
from pilvi.host.units import Units
from pilvi.kit.store import Store
from pilvi.node import list_node_images
from pilvi.providers.kubevirt.machines.backend import MachineLeg, MachineSpec, MachineState, NetworkNotReady
from pilvi.providers.kubevirt.machines.folder import machine_folder
from pilvi.providers.kubevirt.machines.sandbox.backend import SandboxBackend
from pilvi.providers.kubevirt.machines.volumes import CloudInitDisk, NodeDisk
from pilvi.providers.names import machine_netns, machine_port, machine_unit
from pilvi.providers.sizing import Size

UID = "6a1f0000-1111-2222-3333-444444444444"
IMAGES = list_node_images(Store().root)
USER_DATA = b"#cloud-config\nruncmd:\n- echo hello > /root/greeting\n"
BRIDGE = "sntest"

pytestmark = pytest.mark.skipif(not IMAGES, reason="needs a node image: run `pilvi kit build`")


class Lab:
    def __init__(self, cloud: Cloud, units: Units) -> None:
        self.cloud = cloud
        self.units = units
        self.backend = self.new_backend()
        self.router = cloud.netns("vpc-test")

    def new_backend(self) -> SandboxBackend:
        return SandboxBackend(self.cloud, self.units, Store().root, lambda: kit.get_binary("sandbox-enter"))

    def spec(self, user_data: bytes | None = USER_DATA) -> MachineSpec:
        return MachineSpec(
            uid=UID,
            name="web",
            namespace="shop",
            instance={},
            size=Size(2, 1, 1, 1024**3),
            legs=(MachineLeg(self.router, BRIDGE, "02:00:00:00:00:05", IPv4Interface("10.9.0.5/16"), IPv4Address("10.9.0.1")),),
            volumes=(NodeDisk("root", IMAGES[0].version), CloudInitDisk("init", user_data=user_data)),
            user=self.cloud.uid_base,
            stop_grace_s=5,
        )

    async def until_booted(self) -> MachineState:
        return await until(lambda: (state := self.backend.state(UID)).first_boot is not None and state, "the end of the first boot")


async def until(predicate: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := predicate()):
        assert time.monotonic() < deadline, f"{what} did not come"
        await asyncio.sleep(0.02)
    return found


@pytest_asyncio.fixture
async def lab() -> AsyncIterator[Lab]:
    cloud_id = "t" + secrets.token_hex(2)
    home = Path(tempfile.mkdtemp(prefix=f"pilvi-{cloud_id}-", dir="/var/tmp"))
    cloud = Cloud(
        id=cloud_id,
        home=home,
        run=Path(f"/run/pilvi/{cloud_id}"),
        range=IPv4Network("10.249.119.0/24"),
        transit=IPv4Network("10.249.120.0/24"),
        uid_base=1_180_000_000,
        uid_count=100,
    )
    units = Units(cloud)
    lab = Lab(cloud, units)
    supervision = asyncio.create_task(units.run())
    await ensure_netns(lab.router)
    gateway = Address(BRIDGE, IPv4Interface("10.9.0.1/16"))
    await ensure_network(NamespaceNetwork(netns=lab.router, bridges=(Bridge(BRIDGE),), addresses=(gateway,)))
    try:
        yield lab
    finally:
        supervision.cancel()
        await asyncio.wait([supervision])
        await units.stop_all(grace_s=0)
        units.close()
        for netns in list_netns(cloud.netns_prefix):
            await delete_netns(netns)
        shutil.rmtree(home)
        shutil.rmtree(cloud.run, ignore_errors=True)


async def test_from_the_first_start_to_the_end(lab: Lab) -> None:
    state = await lab.backend.ensure(lab.spec())
    assert state.phase == "running"
    assert state.guest_os["id"] == "debian"
    booted = await lab.until_booted()
    assert booted.first_boot == 0
    layer = machine_folder(lab.cloud, UID) / "state" / "layer"
    assert (layer / "root/greeting").read_text() == "hello\n"
    with in_netns(machine_netns(lab.cloud, UID)):
        assert Path("/proc/thread-self/net/route").read_text().count("eth0") >= 2
    assert await lab.backend.list_uids() == [UID]

    await lab.backend.stop(UID, 5)
    assert lab.backend.state(UID).phase == "absent"
    assert layer.exists(), "the layer belongs to the instance"
    await lab.backend.remove(UID)
    await lab.backend.remove(UID)
    assert await lab.backend.list_uids() == []
    assert list_netns(machine_netns(lab.cloud, UID)) == []
    assert machine_port(UID) not in [link.name for link in await list_links(lab.router)]
    assert lab.units.states() == []


async def test_a_killed_machine_is_reset_and_keeps_its_disk(lab: Lab) -> None:
    await lab.backend.ensure(lab.spec())
    await lab.until_booted()
    first = lab.units.state(machine_unit(UID)).pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: (unit := lab.units.state(machine_unit(UID))).state == "running" and unit.pid != first, "another process")
    state = await lab.backend.ensure(lab.spec(None))
    assert (state.phase, state.first_boot) == ("running", 0)


async def test_a_new_engine_adopts_the_machine_and_loses_nothing_in_a_power_cut(lab: Lab) -> None:
    await lab.backend.ensure(lab.spec())
    await lab.until_booted()
    pid = lab.units.state(machine_unit(UID)).pid
    adopted = lab.new_backend()
    assert (await adopted.ensure(lab.spec(None))).first_boot == 0
    assert lab.units.state(machine_unit(UID)).pid == pid
    # A power cut takes processes, namespaces and /run; the disk stays.
    await lab.units.stop_all(grace_s=0)
    await delete_netns(machine_netns(lab.cloud, UID))
    again = lab.new_backend()
    state = await again.ensure(lab.spec(None))
    assert (state.phase, state.first_boot) == ("running", 0)
    layer = machine_folder(lab.cloud, UID) / "state" / "layer"
    assert (layer / "root/greeting").read_text() == "hello\n"


async def test_a_vpc_that_is_not_there_yet_is_awaited(lab: Lab) -> None:
    await delete_netns(lab.router)
    with pytest.raises(NetworkNotReady):
        await lab.backend.ensure(lab.spec())
    assert lab.units.states() == []
