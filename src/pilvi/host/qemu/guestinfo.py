"""What the agent in a guest tells, in the agent's own words (qga/qapi-schema.json). None of it is to be trusted."""

from __future__ import annotations

import msgspec

__all__ = [
    "AgentInfo",
    "GuestAddress",
    "GuestCommand",
    "GuestDisk",
    "GuestExit",
    "GuestFilesystem",
    "GuestHostname",
    "GuestInterface",
    "GuestKeys",
    "GuestOs",
    "GuestProcess",
    "GuestTimezone",
    "GuestUser",
]


class _Answer(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """Agents of other versions tell more or less; nothing but what identifies an entry is required."""


class GuestCommand(_Answer, frozen=True, kw_only=True):
    """A command that the agent knows; `enabled` False when the guest's owner has forbidden it."""

    name: str
    enabled: bool = True


class AgentInfo(_Answer, frozen=True, kw_only=True):
    """The agent."""

    version: str
    supported_commands: list[GuestCommand] = msgspec.field(default_factory=list, name="supported_commands")


class GuestOs(_Answer, frozen=True, kw_only=True):
    """The operating system, as its os-release and uname say."""

    id: str = ""
    name: str = ""
    pretty_name: str = ""
    version: str = ""
    version_id: str = ""
    kernel_release: str = ""
    kernel_version: str = ""
    machine: str = ""


class GuestHostname(_Answer, frozen=True, kw_only=True):
    """The guest's name."""

    host_name: str


class GuestTimezone(_Answer, frozen=True, kw_only=True):
    """`offset` in seconds east of UTC."""

    zone: str = ""
    offset: int


class GuestAddress(_Answer, frozen=True, kw_only=True):
    """An address with the length of its prefix; `ip_address_type` is `ipv4` or `ipv6`."""

    ip_address: str
    ip_address_type: str
    prefix: int


class GuestInterface(_Answer, frozen=True, kw_only=True):
    """A network interface."""

    name: str
    hardware_address: str = ""
    ip_addresses: list[GuestAddress] = []


class GuestUser(_Answer, frozen=True, kw_only=True):
    """A session; `login_time` in seconds since the epoch."""

    user: str
    login_time: float
    domain: str = ""


class GuestDisk(_Answer, frozen=True, kw_only=True):
    """A disk below a file system."""

    bus_type: str = ""
    serial: str = ""
    dev: str = ""


class GuestFilesystem(_Answer, frozen=True, kw_only=True):
    """A mounted file system; sizes are absent where the guest does not tell."""

    name: str
    mountpoint: str
    type: str
    used_bytes: int | None = None
    total_bytes: int | None = None
    disk: list[GuestDisk] = []


class GuestProcess(_Answer, frozen=True, kw_only=True):
    """A program that was started."""

    pid: int


class GuestExit(_Answer, frozen=True, kw_only=True):
    """A started program: what it wrote is base64."""

    exited: bool
    exitcode: int | None = None
    signal: int | None = None
    out_data: str = ""
    err_data: str = ""
    out_truncated: bool = False
    err_truncated: bool = False


class GuestKeys(_Answer, frozen=True, kw_only=True):
    """Keys of a user, as in authorized_keys."""

    keys: list[str]
