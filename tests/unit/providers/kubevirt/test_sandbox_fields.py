"""What a sandbox says of hardware that it has not."""

from typing import Any

import pytest

from pilvi.providers.kubevirt.machines.sandbox.fields import find_unused


@pytest.mark.parametrize(
    ("domain", "unused"),
    [
        ({}, ()),
        ({"machine": {"type": "q35"}, "cpu": {"model": "host-model"}, "devices": {"interfaces": [{"model": "virtio"}]}}, ()),
        ({"machine": {"type": "pc-q35-7.2"}}, ("domain.machine.type",)),
        (
            {"devices": {"disks": [{"name": "a"}, {"name": "b", "serial": "x"}], "watchdog": {"name": "w"}}},
            ("domain.devices.watchdog", "domain.devices.disks[].serial"),
        ),
        ({"firmware": {"uuid": "u", "bootloader": {"efi": {}}}, "features": None}, ("domain.firmware.bootloader",)),
        ({"devices": {"interfaces": [{"name": "a"}, {"name": "b", "ports": [{"port": 80}]}]}}, ("domain.devices.interfaces[].ports",)),
        (None, ()),
    ],
)
def test_what_has_no_effect(domain: dict[str, Any] | None, unused: tuple[str, ...]) -> None:
    assert find_unused({"domain": domain}) == unused
    assert find_unused({"domain": domain}, '{"ignition": {}}') == (*unused, "annotation kubevirt.io/ignitiondata")
