"""What is kept of a running machine's hardware: it is looked at again after anything has happened, and QEMU's silence is no answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pilvi.host.qemu.gear import MORE_MEMORY
from pilvi.providers.kubevirt.machines.qemu.changes import Wanted
from pilvi.providers.kubevirt.machines.qemu.changing import Changing
from tests.unit.providers.kubevirt.test_changes import MIB, machine
from tests.unit.providers.kubevirt.test_guests import UID, Lab, lab_in


class Memory:
    """A machine of 256 MiB that has been offered 128 more; the guest takes them while QEMU is asked about something else."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.taken, self.takes = lab, 0, False
        lab.qemu.commands |= {
            "query-named-block-nodes": [],
            "query-fdsets": [],
            "query-hotpluggable-cpus": [{"props": {"socket-id": 0}, "qom-path": "/cpu"}],
            "query-memory-size-summary": {"base-memory": 256 * MIB},
            "query-memory-devices": self.memory,
            "qom-list": self.devices,
            "qom-set": {},
        }

    def memory(self, _arguments: Any) -> Any:
        return [{"data": {"id": MORE_MEMORY, "size": self.taken, "requested-size": 128 * MIB}}]

    def devices(self, _arguments: Any) -> Any:
        if self.takes:
            self.takes, self.taken = False, 128 * MIB
            self.lab.qemu.event("MEMORY_DEVICE_SIZE_CHANGE", id=MORE_MEMORY, size=self.taken)
        return [{"name": MORE_MEMORY}]


async def test_what_happens_while_qemu_is_asked_is_seen(tmp_path: Path) -> None:
    async with lab_in(tmp_path) as lab:
        memory, changing = Memory(lab), Changing(lab.guests)
        memory.takes = True
        wanted = Wanted(machine(mib=384), {})
        await changing.bring(UID, wanted, tmp_path / "places")
        assert changing.add_to(UID, lab.state).look_again_s, "what was found is old"
        await changing.bring(UID, wanted, tmp_path / "places")
        state = changing.add_to(UID, lab.state)
        assert (state.memory_bytes, state.look_again_s) == (384 * MIB, None)
        asked = len(lab.qemu.asked)
        await changing.bring(UID, wanted, tmp_path / "places")
        assert len(lab.qemu.asked) == asked, "nothing has happened since"


async def test_a_look_that_failed_is_taken_again(tmp_path: Path) -> None:
    async with lab_in(tmp_path) as lab:
        memory, changing = Memory(lab), Changing(lab.guests)
        wanted = Wanted(machine(mib=384), {})
        await changing.bring(UID, wanted, tmp_path / "places")
        assert changing.add_to(UID, lab.state).look_again_s is None
        memory.takes = True
        del lab.qemu.commands["query-fdsets"]
        changing._look_again(UID)
        await changing.bring(UID, wanted, tmp_path / "places")
        assert changing.add_to(UID, lab.state).look_again_s, "QEMU has refused to tell"
        lab.qemu.commands["query-fdsets"] = []
        await changing.bring(UID, wanted, tmp_path / "places")
        await changing.bring(UID, wanted, tmp_path / "places")
        assert changing.add_to(UID, lab.state).memory_bytes == 384 * MIB
