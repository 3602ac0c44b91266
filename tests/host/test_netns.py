import asyncio
import os
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pilvi.errors import TimedOut
from pilvi.host import netns
from pilvi.host.cloud import Cloud
from pilvi.host.netns import NETNS_DIR, ensure_netns, has_netns, in_netns, list_netns, netns_path
from pilvi.host.network import Veth, VethEnd, delete_netns, ensure_veth, list_links


def current() -> str:
    return os.readlink("/proc/thread-self/ns/net")


async def test_made_once_found_deleted(cloud: Cloud) -> None:
    name = cloud.netns("a")
    before = current()
    await ensure_netns(name)
    inode = netns_path(name).stat().st_ino
    await ensure_netns(name)
    assert netns_path(name).stat().st_ino == inode
    assert has_netns(name)
    assert list_netns(cloud.netns_prefix) == [name]
    assert current() == before
    await delete_netns(name)
    await delete_netns(name)
    assert list_netns(cloud.netns_prefix) == []


async def test_many_at_once(cloud: Cloud) -> None:
    names = [cloud.netns(f"n{number % 4}") for number in range(12)]
    await asyncio.gather(*map(ensure_netns, names))
    assert list_netns(cloud.netns_prefix) == sorted(set(names))
    inodes = {netns_path(name).stat().st_ino for name in names}
    assert len(inodes) == 4
    with open("/proc/self/mountinfo") as lines:
        mounted = [line.split()[4] for line in lines if line.split()[4].startswith(f"{NETNS_DIR}/{cloud.netns_prefix}")]
    # A shared directory that was bound onto itself shows each mount twice at most, never once per creator.
    assert len(mounted) == len(set(mounted))
    await asyncio.gather(*map(delete_netns, names))


async def test_iproute_sees_it_and_its_loopback_is_up(cloud: Cloud) -> None:
    name = cloud.netns("a")
    await ensure_netns(name)
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert name in listed
    with in_netns(name), socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


async def test_a_file_left_by_a_crash_is_used(cloud: Cloud) -> None:
    name = cloud.netns("a")
    NETNS_DIR.mkdir(exist_ok=True)
    netns_path(name).touch()
    assert not has_netns(name)
    await ensure_netns(name)
    assert has_netns(name)


async def test_in_netns_comes_back_after_an_error(cloud: Cloud) -> None:
    await ensure_netns(cloud.netns("a"))
    before = current()
    seen = []

    def fail_inside() -> None:
        with in_netns(cloud.netns("a")):
            seen.append(current())
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert seen[0] != before
    assert current() == before
    with pytest.raises(FileNotFoundError), in_netns(cloud.netns("none")):
        pass
    with in_netns(None):
        assert current() == before


async def test_deletion_takes_the_other_ends_along_even_with_a_process_inside(cloud: Cloud) -> None:
    inside, outside = cloud.netns("in"), cloud.netns("out")
    await ensure_netns(inside)
    await ensure_netns(outside)
    await ensure_veth(Veth(a=VethEnd(netns=inside, name="eth0"), b=VethEnd(netns=outside, name="x")))
    with subprocess.Popen(["nsenter", f"--net={netns_path(inside)}", "sleep", "60"]) as process:
        try:
            await delete_netns(inside)
            assert [link.name for link in await list_links(outside)] == ["lo"]
        finally:
            process.kill()


async def test_no_step_waits_for_a_free_thread_of_the_others(cloud: Cloud) -> None:
    """Somebody's slow disk may hold all threads of the event loop."""
    await list_links(None)  # loads pyroute2, which does need one
    inside, outside = cloud.netns("in"), cloud.netns("out")
    cable = Veth(a=VethEnd(netns=inside, name="eth0"), b=VethEnd(netns=outside, name="x"))
    free, loop = threading.Event(), asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    held = loop.run_in_executor(None, free.wait)
    try:
        async with asyncio.timeout(20):
            for name in (inside, outside, inside):
                await ensure_netns(name)
            await ensure_veth(cable)
            await delete_netns(inside)
    finally:
        free.set()
        await held


async def test_a_kernel_that_takes_too_long_is_told(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(netns, "_make", lambda _name: free.wait(20))
    monkeypatch.setattr(netns, "KERNEL_TIMEOUT_S", 0.05)
    with pytest.raises(TimedOut, match="to make network namespace"):
        await ensure_netns(cloud.netns("a"))
    free.set()
