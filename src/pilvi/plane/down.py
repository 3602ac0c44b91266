"""The cloud's end: everything stops; with purge nothing of it is left, and that is proved.

Works from the kernel and from unit records, so it needs neither engine nor API. The engine must have been stopped before.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable

from pilvi.controlplane import COMPONENTS, ETCD
from pilvi.errors import TimedOut, UserError
from pilvi.host import mounts, nft
from pilvi.host.cloud import CLOUD_FILE, Cloud, forget_cloud
from pilvi.host.leftovers import Leftover, find_leftovers, find_records
from pilvi.host.network import delete_link, delete_netns, list_links, list_netns
from pilvi.host.settings import release_settings
from pilvi.host.units import Units, read_units
from pilvi.lib.deadline import wait_for
from pilvi.lib.files import remove_tree

MOST_AT_ONCE = 16
PROOF_TIMEOUT_S = 20.0


async def stop_cloud(cloud: Cloud, show: Callable[[str], None], *, grace_s: float | None = None) -> None:
    """End all units and take the network away; data stays. May be called repeatedly.

    `grace_s` overrides what each unit is given to end by itself. Raises UnitFailed, DriverError.
    """
    units = Units(cloud)
    for text, names in _stop_order([unit.name for unit in read_units(cloud)]):
        if names:
            show(text)
            await _stop(units, names, grace_s)
    await units.stop_all(grace_s)
    show("the network to go")
    for name in list_netns(cloud.netns_prefix):
        await delete_netns(name)
    for link in await list_links(None, cloud.bridge):
        await delete_link(None, link.name)
    await nft.delete(None, cloud.nft_table, family="ip")
    await nft.delete(None, cloud.nft_host_table)
    mounts.unmount_below(cloud.run)
    await asyncio.to_thread(shutil.rmtree, cloud.run, ignore_errors=True)


async def purge_cloud(cloud: Cloud, show: Callable[[str], None]) -> list[str]:
    """Remove what `stop_cloud` has left: data, host settings, the entry in the host's registry; prove that nothing is left.

    Returns the names of the host settings that were put back. Raises UserError with a list when something is left; the purge can
    then be repeated.
    """
    show("the data to go")
    for path in cloud.home.iterdir():  # the home itself may be a disk of its own
        mounts.unmount_below(path)
    restored = release_settings(cloud.id)
    hint = "run `pilvi down --purge` again; what then remains is held by a process outside of the cloud"
    await _prove_none(cloud, lambda: find_leftovers(cloud), hint)
    await asyncio.to_thread(_remove_home, cloud)
    await _prove_none(cloud, lambda: asyncio.to_thread(find_records, cloud), "the cloud's data is gone; remove by hand what is named")
    return restored


async def _prove_none(cloud: Cloud, find: Callable[[], Awaitable[list[Leftover]]], hint: str) -> None:
    """Look until there is nothing: the kernel takes namespaces and links away in its own time. Raises UserError with what is left."""
    left: list[Leftover] = []

    async def is_clean() -> bool:
        left[:] = await find()
        return not left

    try:
        await wait_for(is_clean, PROOF_TIMEOUT_S, "everything of the cloud to be gone")
    except TimedOut as e:
        raise UserError(f"cloud {cloud.id} has left {len(left)} things behind: {', '.join(map(str, left))}", hint=hint) from e


def _remove_home(cloud: Cloud) -> None:
    """The identity goes last: without it a purge that was cut short could not be repeated, and the data would be taken for another's."""
    for path in sorted(cloud.home.iterdir()):
        if path.name not in (CLOUD_FILE, "lost+found"):
            remove_tree(path)
    forget_cloud(cloud)
    if not cloud.home.is_mount():
        cloud.home.rmdir()


def _stop_order(names: list[str]) -> list[tuple[str, list[str]]]:
    """Machines first, since they end in order only while their API answers; etcd last, since an API server hangs without it."""
    control_planes = [name for name in names if name.endswith(tuple(f"-{component}" for component in COMPONENTS))]
    stores = [name for name in control_planes if name.endswith(f"-{ETCD}")]
    machines = [name for name in names if name not in control_planes]
    return [
        ("machines and managers to stop", machines),
        ("control planes to stop", [name for name in control_planes if name not in stores]),
        ("etcd to stop", stores),
    ]


async def _stop(units: Units, names: list[str], grace_s: float | None) -> None:
    limit = asyncio.Semaphore(MOST_AT_ONCE)

    async def stop(name: str) -> None:
        async with limit:
            await units.stop(name, grace_s)

    await asyncio.gather(*(stop(name) for name in names))
