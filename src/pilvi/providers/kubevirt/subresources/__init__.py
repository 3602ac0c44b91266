"""KubeVirt's subresources, as virtctl calls them: what is done to machines and instances beside writing their objects.

machine.py, lifecycle.py   of a VirtualMachine: start, stop, restart; which change a strategy needs is pure
instance.py, guest.py      of a VirtualMachineInstance: pause, reset, freeze; what its guest's agent says
streams.py                 console, screen, ports: web sockets (splice.py) to sockets of the machine (peers.py)
volumes.py                 of both: disks that are added and removed
evacuation.py              of both: an eviction that is taken back
attempts.py                writes that are planned anew when somebody else was faster
memorydump.py              of a VirtualMachine: its memory into a claim
refused.py                 what upstream has and this does not
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pilvi.providers.aggregation import ApiGroup, Endpoint
from pilvi.providers.kubevirt.machines.backends import machine_backends
from pilvi.providers.kubevirt.machines.control import MachineControl
from pilvi.providers.kubevirt.subresources.about import AboutHandlers
from pilvi.providers.kubevirt.subresources.evacuation import EvacuationHandlers
from pilvi.providers.kubevirt.subresources.instance import InstanceHandlers
from pilvi.providers.kubevirt.subresources.machine import MachineHandlers
from pilvi.providers.kubevirt.subresources.memorydump import MemoryDumpHandlers
from pilvi.providers.kubevirt.subresources.objects import Objects
from pilvi.providers.kubevirt.subresources.refused import refused_endpoints
from pilvi.providers.kubevirt.subresources.streams import StreamHandlers
from pilvi.providers.kubevirt.subresources.volumes import VolumeHandlers

if TYPE_CHECKING:
    from pilvi.providers.platform import Platform

__all__ = ["GROUP", "VERSIONS", "subresources"]

GROUP = "subresources.kubevirt.io"
VERSIONS = ("v1", "v1alpha3")

_MACHINES, _INSTANCES = "virtualmachines", "virtualmachineinstances"


def subresources(platform: Platform, controls: Mapping[str, MachineControl] | None = None) -> ApiGroup:
    """The group with all its endpoints. `controls` act on the machines of backends, by name; given for tests only."""
    if controls is None:
        controls = {name: backend.control for name, backend in machine_backends(platform).items()}
    objects = Objects(platform.client, controls)
    machine = MachineHandlers(platform.client, objects)
    instance = InstanceHandlers(objects)
    stream = StreamHandlers(platform, objects)
    volume = VolumeHandlers(platform.client, objects)
    dump = MemoryDumpHandlers(platform.client, objects)
    evacuation = EvacuationHandlers(platform.client, objects)
    about = AboutHandlers(platform.client)
    endpoints = (
        Endpoint("PUT", _MACHINES, machine.start, "start"),
        Endpoint("PUT", _MACHINES, machine.stop, "stop"),
        Endpoint("PUT", _MACHINES, machine.restart, "restart"),
        Endpoint("PUT", _MACHINES, machine.migrate, "migrate"),
        Endpoint("PUT", _MACHINES, volume.add_to_machine, "addvolume"),
        Endpoint("PUT", _MACHINES, volume.remove_from_machine, "removevolume"),
        Endpoint("PUT", _MACHINES, dump.get, "memorydump"),
        Endpoint("PUT", _MACHINES, dump.remove, "removememorydump"),
        Endpoint("PUT", _INSTANCES, volume.add_to_instance, "addvolume"),
        Endpoint("PUT", _INSTANCES, volume.remove_from_instance, "removevolume"),
        Endpoint("PUT", _MACHINES, evacuation.cancel_of_machine, "evacuate/cancel"),
        Endpoint("PUT", _INSTANCES, evacuation.cancel_of_instance, "evacuate/cancel"),
        Endpoint("GET", _MACHINES, machine.expand_spec, "expand-spec"),
        Endpoint("GET", _MACHINES, stream.forward_machine, "portforward", tail="/{port}"),
        Endpoint("GET", _MACHINES, stream.forward_machine, "portforward", tail="/{port}/{protocol}"),
        Endpoint("PUT", _INSTANCES, instance.pause, "pause"),
        Endpoint("PUT", _INSTANCES, instance.unpause, "unpause"),
        Endpoint("PUT", _INSTANCES, instance.reset, "reset"),
        Endpoint("PUT", _INSTANCES, instance.soft_reboot, "softreboot"),
        Endpoint("PUT", _INSTANCES, instance.freeze, "freeze"),
        Endpoint("PUT", _INSTANCES, instance.unfreeze, "unfreeze"),
        Endpoint("GET", _INSTANCES, instance.guest_os_info, "guestosinfo"),
        Endpoint("GET", _INSTANCES, instance.user_list, "userlist"),
        Endpoint("GET", _INSTANCES, instance.filesystem_list, "filesystemlist"),
        Endpoint("GET", _INSTANCES, stream.console, "console"),
        Endpoint("GET", _INSTANCES, stream.screen, "vnc"),
        Endpoint("GET", _INSTANCES, stream.screenshot, "vnc/screenshot"),
        Endpoint("GET", _INSTANCES, stream.forward, "portforward", tail="/{port}"),
        Endpoint("GET", _INSTANCES, stream.forward, "portforward", tail="/{port}/{protocol}"),
        Endpoint("PUT", "expand-vm-spec", machine.expand_given, of="namespace"),
        Endpoint("GET", "version", about.version, of="group"),
        Endpoint("GET", "healthz", about.healthz, of="group"),
        *refused_endpoints(),
    )
    return ApiGroup(GROUP, VERSIONS, endpoints)
