"""A listening socket in the platform's network namespace: a socket stays where it was made."""

import socket
from ipaddress import IPv4Address

from pilvi.host.cloud import Cloud
from pilvi.host.netns import in_netns


def listen(cloud: Cloud, address: IPv4Address, port: int) -> socket.socket:
    """The socket, bound and not blocking. Raises FileNotFoundError without that namespace, OSError when somebody has the port."""
    with in_netns(cloud.netns("plane")):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((str(address), port))
    listener.setblocking(False)
    return listener
