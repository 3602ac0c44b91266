"""A small machine to run in tests: Debian's kernel, busybox, the guest agent and an SSH server, made from Debian packages.

It is ready in seconds without hardware virtualisation. `guest_image()` builds it once per machine; the fixture `guest` hands it to tests.
"""

from tests.guests.build import guest_image
from tests.guests.guest import Guest, Kernel

__all__ = ["Guest", "Kernel", "guest_image"]
