"""The identity of a cloud on this host, and the names of everything that it makes here.

Chosen once, by `create_cloud`, and kept in `<home>/cloud.json`. What may not be shared between two clouds of one host (id,
address range, transit pool, block of uids) is chosen under the lock of the host-wide file (`hostfile`), so that two `pilvi up`
at the same time get different ones. A name that `Cloud` gives is recognised later as this cloud's by its id; nothing else is
ever touched.
"""

from __future__ import annotations

import builtins
import errno
import secrets
import string
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Literal

import msgspec

from pilvi.errors import UserError, WrongUse
from pilvi.host import codec
from pilvi.host.addresses import list_used_networks
from pilvi.host.hostfile import HOST_FILE, CloudEntry, HostFile, open_host_file
from pilvi.host.uids import UID_BLOCK_SIZE, find_uid_block, list_taken_uids
from pilvi.lib.allocate import find_free_prefix
from pilvi.lib.files import write_atomic
from pilvi.lib.hashing import short_hash

__all__ = [
    "CLOUD_FILE",
    "CLOUD_FORMAT",
    "DEFAULT_HOME",
    "Cloud",
    "Machines",
    "check_range",
    "check_same_range",
    "create_cloud",
    "find_cloud",
    "forget_cloud",
    "get_cloud",
    "list_clouds",
    "save_cloud",
]

DEFAULT_HOME = Path("/var/lib/pilvi")
CLOUD_FILE = "cloud.json"
"""The file of a home that says which cloud it is."""
CLOUD_FORMAT = 1
"""Format of a home; a home with a higher number was made by a newer pilvi and is refused."""

RUN_ROOT = Path("/run/pilvi")
SERVICES = Path("/etc/systemd/system")
RANGE_POOL = IPv4Network("10.250.0.0/16")
TRANSIT_POOL = IPv4Network("100.64.0.0/10")
_DEFAULT_RANGE_LENGTH, _TRANSIT_LENGTH = 24, 22
_WIDEST_RANGE, _NARROWEST_RANGE = 18, 28

Machines = Literal["auto", "qemu", "sandbox"]


class Cloud(msgspec.Struct, frozen=True, kw_only=True):
    """One cloud of this host.

    `id` is five characters. `range` holds the cloud's addresses, `transit` those of VPC routers towards the host; both lie on one
    bridge. `uid_base` and `uid_count` are the block of host uids for its units. `machines` is the default backend. `hosts` is how many
    virtual hosts it has. `kubernetes` is the version that the platform runs, as `v1.37.2`, empty until an `up` has chosen it.
    """

    id: str
    home: Path
    run: Path
    range: IPv4Network
    transit: IPv4Network
    uid_base: int
    uid_count: int
    machines: Machines = "auto"
    hosts: int = 1
    kubernetes: str = ""
    format: int = CLOUD_FORMAT

    @property
    def bridge(self) -> str:
        """The bridge in the host's namespace that all address ranges of the cloud are on."""
        return f"pv{self.id}"

    @property
    def host_address(self) -> IPv4Interface:
        """The host's own address on the bridge: the first of the range."""
        return IPv4Interface((self.range[1], self.range.prefixlen))

    @property
    def platform_address(self) -> IPv4Interface:
        """The address of the platform's API server: the second of the range. From the third on the allocator gives them out."""
        return IPv4Interface((self.range[2], self.range.prefixlen))

    @property
    def transit_gateway(self) -> IPv4Interface:
        """The host's address in the transit pool: next hop of every VPC router."""
        return IPv4Interface((self.transit[1], self.transit.prefixlen))

    @property
    def uids(self) -> builtins.range:
        """All uids that units of this cloud may have."""
        return builtins.range(self.uid_base, self.uid_base + self.uid_count)

    @property
    def units_dir(self) -> Path:
        """Where the records of running units are."""
        return self.run / "units"

    @property
    def service_file(self) -> Path:
        """The unit file of the systemd service that is the cloud's engine, on machines that systemd runs."""
        return SERVICES / f"pilvi-{self.id}.service"

    @property
    def netns_prefix(self) -> str:
        """Every network namespace of the cloud begins so."""
        return f"pv-{self.id}-"

    @property
    def nft_table(self) -> str:
        """The table that holds the cloud's rules, in the host's namespace and in each of the cloud's own."""
        return f"pilvi-{self.id}"

    @property
    def nft_host_table(self) -> str:
        """The table in the host's namespace that keeps the cloud from the host."""
        return f"{self.nft_table}-host"

    @property
    def cgroup_root(self) -> str:
        """The group, relative to the root of each hierarchy, that all units of the cloud are in."""
        return f"pilvi-{self.id}"

    @property
    def networks(self) -> dict[str, IPv4Network]:
        """The networks that nothing else of the cloud may overlap, by what people call them."""
        return {"the cloud's range": self.range, "the cloud's transit pool": self.transit}

    def netns(self, suffix: str) -> str:
        """Name of a network namespace, for example `netns("plane")`."""
        return self.netns_prefix + suffix

    def link_name(self, text: str) -> str:
        """Name of a link in the host's namespace that belongs to `text` (the UID of an object, or any fixed word)."""
        return self.bridge + short_hash(text)

    def cgroup(self, unit: str) -> str:
        """The group of one unit, relative to the root of each hierarchy."""
        return f"{self.cgroup_root}/{unit}"

    def owns_address(self, address: IPv4Address) -> bool:
        """Whether `address` lies in the range or in the transit pool."""
        return address in self.range or address in self.transit


def find_cloud(home: Path) -> Cloud | None:
    """The cloud of that home, or None when there is none yet.

    Raises UserError when the file is damaged or was written by a newer pilvi.
    """
    path = home / CLOUD_FILE
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        header = codec.decode(data, _Header)
        if header.format > CLOUD_FORMAT:
            raise UserError(
                f"{home} has format {header.format}, made by a newer pilvi; this one knows up to {CLOUD_FORMAT}",
                hint="install the newer pilvi, or choose another --home",
            )
        return codec.decode(data, Cloud)
    except msgspec.DecodeError as e:
        raise UserError(
            f"{path} is damaged", hint=f"restore {path} from a backup; without it pilvi cannot tell what belongs to this cloud"
        ) from e


def get_cloud(home: Path) -> Cloud:
    """Like `find_cloud`, but raises UserError when the home holds no cloud."""
    cloud = find_cloud(home)
    if cloud is None:
        raise UserError(f"there is no cloud in {home}", hint="sudo pilvi up makes one; --home names another")
    return cloud


def list_clouds(host_file: Path = HOST_FILE) -> list[Cloud]:
    """All clouds of this host whose home is there. Needs root. Blocking, short. Raises UserError as `find_cloud` does."""
    with open_host_file(host_file) as host:
        homes = [entry.home for entry in host.clouds.values()]
    return [cloud for home in homes if (cloud := find_cloud(home)) is not None]


def save_cloud(cloud: Cloud) -> None:
    """Write `<home>/cloud.json` (0644: it holds no secret, and `pilvi status` of any user reads it). Raises OSError."""
    cloud.home.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomic(cloud.home / CLOUD_FILE, msgspec.json.format(codec.encode(cloud), indent=2) + b"\n")


def create_cloud(
    home: Path,
    range: IPv4Network | None = None,
    machines: Machines | None = None,
    hosts: int | None = None,
    *,
    host_file: Path = HOST_FILE,
    run_root: Path = RUN_ROOT,
) -> Cloud:
    """Choose the identity of the cloud in `home`, or return the one that it has; all but `range` may be changed later.

    Without `range` the first free /24 of 10.250.0.0/16 is taken. Blocking, short. Raises UserError when the range cannot be used, when
    the existing cloud has another one, or when the home was made by a newer pilvi.
    """
    home = home.resolve()
    if range is not None:
        check_range(range)
    with open_host_file(host_file) as host:
        cloud = find_cloud(home)
        if cloud is None:
            _check_unused(home)
            _drop_lost(host)
            cloud = _choose(host, home, range, machines or "auto", run_root)
        elif range is not None:
            check_same_range(cloud, range)
        cloud = msgspec.structs.replace(cloud, machines=machines or cloud.machines, hosts=hosts or cloud.hosts)
        # Saved while the lock is held: an entry without its file is then known to be a lost one.
        save_cloud(cloud)
        host.clouds[cloud.id] = CloudEntry(
            home=cloud.home, range=cloud.range, transit=cloud.transit, uid_base=cloud.uid_base, uid_count=cloud.uid_count
        )
    return cloud


def forget_cloud(cloud: Cloud, *, host_file: Path = HOST_FILE) -> None:
    """Give back range, transit pool and uids, and remove `cloud.json`: the last step of a purge. Blocking, short.

    With the last cloud goes the folder that all of them have below /run. Raises OSError.
    """
    with open_host_file(host_file) as host:
        host.clouds.pop(cloud.id, None)
        (cloud.home / CLOUD_FILE).unlink(missing_ok=True)
        if not host.clouds:  # another cloud that starts is in there already, and so keeps the folder that it is about to use
            _remove_empty(cloud.run.parent)


def check_same_range(cloud: Cloud, range: IPv4Network) -> None:
    """Raises UserError when `range` is not the one that the cloud has: its objects hold addresses of it."""
    if range != cloud.range:
        raise UserError(
            f"the cloud in {cloud.home} has range {cloud.range}, which cannot be changed to {range}",
            hint="leave --range out, choose another --home, or `pilvi down --purge` first",
        )


def check_range(range: IPv4Network) -> None:
    """Raises WrongUse for a range that no cloud can have, whatever this host uses."""
    if not _WIDEST_RANGE <= range.prefixlen <= _NARROWEST_RANGE:
        size = "large" if range.prefixlen < _WIDEST_RANGE else "small"
        raise WrongUse(
            f"range {range} is too {size}",
            hint=f"take a prefix length from /{_WIDEST_RANGE} to /{_NARROWEST_RANGE}, for example 10.250.7.0/24",
        )
    if range.is_multicast or range.is_loopback or range.is_link_local or range.is_reserved or range.is_unspecified:
        raise WrongUse(f"range {range} is not for hosts", hint="take a private network, for example 10.250.7.0/24")


def _check_unused(home: Path) -> None:
    """A purge removes all that is in a home. So nothing may be there that is not the cloud's, nor of another one that lost its identity."""
    present = sorted(path.name for path in home.iterdir() if path.name != "lost+found") if home.is_dir() else []
    if present:
        raise UserError(
            f"{home} is no home of a cloud, but holds {', '.join(present[:3])}{' and more' if len(present) > 3 else ''}",
            hint=f"choose a new or empty folder with --home; if this was a cloud, restore {home / CLOUD_FILE} from a backup",
        )


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


def _choose(host: HostFile, home: Path, range: IPv4Network | None, machines: Machines, run_root: Path) -> Cloud:
    used = list_used_networks()
    for id, entry in host.clouds.items():
        used[f"range {entry.range} of cloud {id} in {entry.home}"] = entry.range
        used[f"transit pool {entry.transit} of cloud {id} in {entry.home}"] = entry.transit
    if range is None:
        range = find_free_prefix(RANGE_POOL, _DEFAULT_RANGE_LENGTH, used.values())
        if range is None:
            raise UserError(
                f"no /{_DEFAULT_RANGE_LENGTH} of {RANGE_POOL} is free on this host", hint="name a free private network with --range"
            )
    for words, network in used.items():
        if range.overlaps(network):
            raise UserError(f"range {range} overlaps {words}", hint="name a free private network with --range, or leave --range out")
    transit = find_free_prefix(TRANSIT_POOL, _TRANSIT_LENGTH, [*used.values(), range])
    if transit is None:
        raise UserError(
            f"no /{_TRANSIT_LENGTH} of {TRANSIT_POOL} is free on this host", hint="see `ip route`: something has taken all of it"
        )
    taken = [builtins.range(entry.uid_base, entry.uid_base + entry.uid_count) for entry in host.clouds.values()]
    id = _new_id(host)
    return Cloud(
        id=id,
        home=home,
        run=run_root / id,
        range=range,
        transit=transit,
        uid_base=find_uid_block([*taken, *list_taken_uids()]),
        uid_count=UID_BLOCK_SIZE,
        machines=machines,
    )


def _new_id(host: HostFile) -> str:
    while True:
        id = secrets.choice(string.ascii_lowercase) + "".join(
            secrets.choice(string.ascii_lowercase + string.digits) for _ in builtins.range(4)
        )
        if id not in host.clouds:
            return id


def _drop_lost(host: HostFile) -> None:
    """Forget clouds whose home was removed by hand, unless their bridge is still there."""
    for id, entry in list(host.clouds.items()):
        if not (entry.home / CLOUD_FILE).exists() and not Path(f"/sys/class/net/pv{id}").exists():
            del host.clouds[id]


class _Header(msgspec.Struct):
    format: int = 1
