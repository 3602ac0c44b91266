"""The leftover check must find one of each kind, and nothing of another cloud."""

import subprocess

import msgspec

from pilvi.host import mounts, nft
from pilvi.host.cloud import Cloud
from pilvi.host.leftovers import find_leftovers
from pilvi.host.netns import ensure_netns
from pilvi.host.network import Bridge, NamespaceNetwork, delete_link, ensure_network


async def kinds(cloud: Cloud) -> set[str]:
    return {leftover.kind for leftover in await find_leftovers(cloud)}


async def test_nothing(cloud: Cloud) -> None:
    assert await find_leftovers(cloud) == []


async def test_each_kind_is_found(cloud: Cloud) -> None:
    other = msgspec.structs.replace(cloud, id="zzzzz", home=cloud.home.parent / "other", run=cloud.run.with_name("zzzzz"), uid_base=1)
    await ensure_netns(cloud.netns("a"))
    assert await kinds(cloud) == {"namespace", "mount"}

    with subprocess.Popen(["nsenter", f"--net=/run/netns/{cloud.netns('a')}", "sleep", "1000"]) as process:
        assert any(leftover.kind == "process" and leftover.name.startswith(f"{process.pid} ") for leftover in await find_leftovers(cloud))
        process.kill()

    await ensure_network(NamespaceNetwork(netns=None, bridges=(Bridge(cloud.bridge),)))
    assert "link" in await kinds(cloud)
    await delete_link(None, cloud.bridge)

    await nft.apply(None, [nft.table(cloud.nft_table)])
    assert "nft table" in await kinds(cloud)
    await nft.delete(None, cloud.nft_table)

    image = cloud.home / "disk"
    image.write_bytes(bytes(1 << 20))
    device = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True).stdout.strip()
    try:
        assert f"{device} on {image}" in [leftover.name for leftover in await find_leftovers(cloud) if leftover.kind == "loop device"]
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)

    (cloud.home / "m").mkdir()
    mounts.mount_tmpfs(cloud.home / "m")
    assert str(cloud.home / "m") in [leftover.name for leftover in await find_leftovers(cloud)]
    mounts.unmount(cloud.home / "m")

    cloud.run.mkdir(parents=True)
    (cloud.run / "socket").touch()
    assert str(cloud.run / "socket") in [leftover.name for leftover in await find_leftovers(cloud)]

    assert await find_leftovers(other) == []


async def test_process_with_a_uid_of_the_cloud(cloud: Cloud) -> None:
    with subprocess.Popen(["sleep", "1000"], user=cloud.uid_base + 3) as process:
        try:
            assert [leftover.kind for leftover in await find_leftovers(cloud)] == ["process"]
        finally:
            process.kill()
