"""virtctl memory-dump get and remove, down to the machine's status."""

from __future__ import annotations

from typing import Any

import pytest

from pilvi.api import JsonObject
from pilvi.providers.kubevirt.kinds import CLAIMS, INSTANCES, MACHINES
from tests.unit.providers.kubevirt.subresources.served import Served
from tests.virtctl import VirtctlError


def put_claim(served: Served, size: str = "8Gi", **spec: Any) -> None:
    spec = {"resources": {"requests": {"storage": size}}, **spec}
    served.put(CLAIMS, {"metadata": {"name": "mem", "namespace": "shop"}, "spec": spec})


def request_of(served: Served) -> JsonObject | None:
    found: JsonObject | None = served.get(MACHINES)["status"].get("memoryDumpRequest")
    return found


async def test_a_request_stands_in_the_status(served: Served) -> None:
    vm = served.put_machine()
    served.put_instance()
    put_claim(served)
    async with served.virtctl() as virtctl:
        await virtctl.memory_dump("web", "mem")
        assert request_of(served) == {"claimName": "mem", "phase": "Associating"}
        for name, words in (("mem", "already in progress"), ("other", "still associated as the memory dump pvc")):
            with pytest.raises(VirtctlError, match=words) as refused:
                await virtctl.memory_dump("web", name)
            assert refused.value.code == 409
        vm = served.get(MACHINES)
        vm["status"]["memoryDumpRequest"] = {"claimName": "mem", "phase": "Completed", "fileName": "f", "endTimestamp": "e"}
        served.put(MACHINES, vm)
        await virtctl.memory_dump("web")
        assert request_of(served) == {"claimName": "mem", "phase": "Associating"}
        await virtctl.remove_memory_dump("web")
        assert request_of(served) == {"claimName": "mem", "phase": "Dissociating", "remove": True}
        for call, words in (
            (virtctl.memory_dump("web"), "remove memory dump request is in progress"),
            (virtctl.remove_memory_dump("web"), "exists"),
        ):
            with pytest.raises(VirtctlError, match=words) as refused:
                await call
            assert refused.value.code == 409


@pytest.mark.parametrize(
    ("phase", "fidelity", "claim", "volumes", "code", "words"),
    [
        ("Scheduled", "Tcg", {}, [], 409, "VMI is not running"),
        ("Running", "Sandbox", {}, [], 409, "sandbox"),
        ("Running", "Tcg", None, [], 404, '"mem" not found'),
        ("Running", "Tcg", {"size": "64Mi"}, [], 409, r"pvc size \[64Mi\] should be bigger then"),
        ("Running", "Tcg", {"volumeMode": "Block"}, [], 409, "filesystem pvc"),
        ("Running", "Tcg", {}, [{"name": "mem", "emptyDisk": {"capacity": "1Gi"}}], 409, "it has a volume mem"),
        ("Running", "Tcg", {}, [{"name": "d", "persistentVolumeClaim": {"claimName": "mem"}}], 409, "is a disk of the machine"),
    ],
)
async def test_what_cannot_be(
    served: Served, phase: str, fidelity: str, claim: JsonObject | None, volumes: list[JsonObject], code: int, words: str
) -> None:
    served.put_machine()
    vmi = served.put_instance(phase, fidelity=fidelity)
    vmi["spec"]["volumes"] += volumes
    served.put(INSTANCES, vmi)
    if claim is not None:
        put_claim(served, **claim)
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match=words) as refused:
            await virtctl.memory_dump("web", "mem")
    assert refused.value.code == code
    assert request_of(served) is None


async def test_what_names_nothing(served: Served) -> None:
    served.put_machine()
    async with served.virtctl() as virtctl:
        for call, code, words in (
            (virtctl.memory_dump("web"), 400, "requires claim name"),
            (virtctl.memory_dump("web", "a.b"), 400, "no name of a volume"),
            (virtctl._put("virtualmachines", "web", "memorydump", {"claimName": "a", "phase": "Completed"}), 400, "not understood"),
            (virtctl.remove_memory_dump("web"), 409, "no association found"),
            (virtctl.memory_dump("web", "mem"), 404, "not found"),
        ):
            with pytest.raises(VirtctlError, match=words) as refused:
                await call
            assert refused.value.code == code
