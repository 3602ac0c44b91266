"""Tap devices: ports of a bridge whose other end is a virtual machine's network card.

They are persistent, so that they are there before the machine and survive it; a process takes one over by opening it
(`host.units.OpenTap`). A device is made by an ioctl, not by netlink.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from pilvi.errors import DriverError, UserError
from pilvi.host.netns import in_netns
from pilvi.host.network.apply import apply_link
from pilvi.host.network.model import Tap
from pilvi.host.network.netlink import netlink
from pilvi.host.network.observe import find_link
from pilvi.host.network.plan import plan_link

__all__ = ["ensure_tap", "open_tap"]

_DEVICE = "/dev/net/tun"
_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x2, 0x1000, 0x4000


async def ensure_tap(tap: Tap) -> None:
    """Make the device be there, up, in its bridge.

    Raises FileNotFoundError when the namespace is missing, DriverError when the kernel refuses something (its bridge is not there, the
    name belongs to a link of another kind), UserError on a host without tap devices.
    """
    async with netlink(tap.netns) as ip:
        link = await find_link(ip, tap.name)
        if link is None:
            _make(tap)
            link = await find_link(ip, tap.name)
        if link is None or link.kind != "tun":
            raise DriverError(("ip", "link", "show", tap.name), 1, "", f"link {tap.name} of namespace {tap.netns} is no tap device")
        for action in plan_link(link, mac=None, mtu=tap.mtu, master=tap.master):
            await apply_link(ip, tap.netns, action)


def open_tap(netns: str | None, name: str) -> int:
    """A descriptor of the one queue of a tap device that is there, for a machine that runs already. The caller closes it.

    Raises FileNotFoundError without that namespace, OSError when there is no such device or somebody has it open. Microseconds.
    """
    with in_netns(netns):
        descriptor = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            if name not in (link for _, link in socket.if_nameindex()):  # the ioctl would make one that vanishes with its descriptor
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)
            fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def _make(tap: Tap) -> None:
    """Microseconds; nothing in it waits for I/O."""
    request = struct.pack("16sH22x", tap.name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
    with in_netns(tap.netns):
        try:
            descriptor = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as e:
            raise UserError(
                f"{_DEVICE} cannot be opened: {e.strerror}", hint="run `modprobe tun`; in a container, pass the device on"
            ) from e
        try:
            fcntl.ioctl(descriptor, _TUNSETIFF, request)
            fcntl.ioctl(descriptor, _TUNSETPERSIST, 1)
        except OSError as e:
            # EBUSY: somebody has made and opened it meanwhile, which is as good.
            if e.errno != errno.EBUSY:
                raise DriverError(
                    ("ip", "tuntap", "add", tap.name), e.errno or 1, "", f"tap {tap.name} cannot be made: {e.strerror}"
                ) from e
        finally:
            os.close(descriptor)
