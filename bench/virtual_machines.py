"""Virtual machines of the cloud that is measured: the tests' own guest, from a registry on loopback, as a user would apply it.

How long a machine takes until it runs and until its guest answers, what it needs beside the guest's memory, what its disk and its console
carry, and how many start at once. Floors are QEMU started by hand and a raw
file of the host.
"""

import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.e2e.guests import push_guest
from tests.images.bootsector import boot_disk
from tests.images.registry import make_layer, registry_in_thread

from bench.cloud import INSTANCES, BenchCloud, stopwatch, wait_for_object
from bench.table import Row
from pilvi.lib.hashing import short_hash

RUNS = 3
AT_ONCE = 20
OBJECTS = 100
MEMORY_MIB = 256
DISK_MIB = 256
MACHINES = "/apis/kubevirt.io/v1/virtualmachines"
FLOOR = Path(__file__).parent / "floor" / "machine.py"
# What the guest does when it is up: it writes its second disk and reads it, past its own cache, and says how long that took.
USER_DATA = f"""#cloud-config
runcmd:
- |
  disk=/dev/$(grep -l bench /sys/block/vd*/serial | cut -d/ -f4)
  seconds() {{ sed -n "s/.*, \\([0-9.]*\\) *seconds.*/bench $1 \\1/p" >/dev/ttyS0; }}
  dd if=/dev/zero of=$disk bs=1M count={DISK_MIB} conv=fsync 2>&1 | seconds write
  echo 3 >/proc/sys/vm/drop_caches
  dd if=$disk of=/dev/null bs=1M count={DISK_MIB} 2>&1 | seconds read
"""


def measure_virtual_machines(cloud: BenchCloud, floors: dict[str, list[float]]) -> list[Row]:
    """All rows of virtual machines. The floors `running`, `answers`, `qemu` are those of `floor/machine.py`, `write` and `read` of
    `floor/disk.py`."""
    times: dict[str, list[float]] = defaultdict(list)
    with registry_in_thread() as registry:
        image = push_guest(registry)
        registry.add("boot", "1", make_layer({"disk/disk.img": boot_disk("up")}))
        _run(cloud, "first", image)  # it pulls the image
        for number in range(RUNS):
            for name, value in _run(cloud, f"guest-{number}", image).items():
                times[name].append(value)
        with stopwatch() as start:
            _apply(cloud, [_machine(f"many-{number}", f"{registry.host}/boot:1", memory_mib=64) for number in range(AT_ONCE)])
            _wait_running(cloud, AT_ONCE, "many-")
        _delete(cloud, *(f"many-{number}" for number in range(AT_ONCE)))
    before = cloud.engine_bytes()
    _apply(cloud, [_machine(f"stopped-{number}", "stopped:1", strategy="Halted") for number in range(OBJECTS)])
    time.sleep(5.0)
    objects = cloud.engine_bytes()
    _delete(cloud, *(f"stopped-{number}" for number in range(OBJECTS)))
    return [
        Row("VM created, Running", times["running"], floors["running"], "s"),
        Row("VM created, guest answers", times["answers"], floors["answers"], "s"),
        Row(f"memory beside a guest of {MEMORY_MIB} MiB", times["qemu"], floors["qemu"], "MB"),
        Row(f"guest writes {DISK_MIB} MiB to a disk", times["write"], floors["write"], "s"),
        Row(f"guest reads {DISK_MIB} MiB from a disk", times["read"], floors["read"], "s"),
        Row(f"{AT_ONCE} VMs at once, all Running", [start.seconds], [], "s"),
        Row(f"engine memory, {OBJECTS} VM objects more", [objects - before], [], "MB"),
    ]


def _run(cloud: BenchCloud, name: str, image: str) -> dict[str, float]:
    """One machine from `kubectl apply` until its guest has measured its disk; it is deleted at the end."""
    found: dict[str, float] = {}
    with stopwatch() as running:
        _apply(cloud, [_machine(name, image, user_data=USER_DATA)])
        vmi = _wait_running(cloud, 1, name)
        (netns,) = cloud.netns("vpc-")
        address = vmi["status"]["interfaces"][0]["ipAddress"]
        running_s = time.monotonic()
        subprocess.run(["nsenter", f"--net=/run/netns/{netns}", sys.executable, FLOOR, "greets", address], check=True)
        answers_s = time.monotonic()
    found["answers"] = running.seconds
    found["running"] = running.seconds - (answers_s - running_s)
    uid = vmi["metadata"]["uid"]
    said = _wait_said(cloud.home / "machines" / uid / "serial.log")
    found["write"], found["read"] = float(said["write"]), float(said["read"])
    found["qemu"] = cloud.beside_guest_bytes(f"m-{short_hash(uid)}", MEMORY_MIB << 20)
    _delete(cloud, name)
    return found


def _wait_said(log: Path) -> dict[str, str]:
    deadline = time.monotonic() + 120
    while len(said := dict(re.findall(r"bench (\w+) ([\d.]+)", log.read_text(errors="replace")))) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{log}: the guest did not measure its disk")
        time.sleep(0.1)
    return said


def _wait_running(cloud: BenchCloud, number: int, prefix: str) -> dict[str, Any]:
    """Until so many instances run whose names begin so; the last one."""
    running: dict[str, dict[str, Any]] = {}

    def all_run(found: dict[str, Any]) -> bool:
        if found["metadata"]["name"].startswith(prefix) and found.get("status", {}).get("phase") == "Running":
            running[found["metadata"]["name"]] = found
        return len(running) == number

    wait_for_object(cloud.platform, INSTANCES, all_run)
    return list(running.values())[-1]


def _apply(cloud: BenchCloud, machines: list[dict[str, Any]]) -> None:
    cloud.pilvi("kubectl", "--", "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": machines}))


def _delete(cloud: BenchCloud, *names: str) -> None:
    cloud.pilvi("kubectl", "--", "delete", "--timeout=180s", *(f"vm/{name}" for name in names))


def _machine(name: str, image: str, *, memory_mib: int = MEMORY_MIB, user_data: str = "", strategy: str = "Always") -> dict[str, Any]:
    disks = [{"name": "root", "disk": {"bus": "virtio"}}]
    volumes: list[dict[str, Any]] = [{"name": "root", "containerDisk": {"image": image}}]
    if user_data:
        disks += [{"name": "seed", "disk": {"bus": "virtio"}}, {"name": "data", "disk": {"bus": "virtio"}, "serial": "bench"}]
        volumes += [
            {"name": "seed", "cloudInitNoCloud": {"userData": user_data}},
            {"name": "data", "emptyDisk": {"capacity": f"{DISK_MIB}Mi"}},
        ]
    domain = {"memory": {"guest": f"{memory_mib}Mi"}, "resources": {"requests": {"cpu": "10m"}}, "devices": {"disks": disks, "rng": {}}}
    spec = {"domain": domain, "volumes": volumes, "terminationGracePeriodSeconds": 0}
    metadata = {"name": name, "namespace": "default"}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": metadata,
        "spec": {"runStrategy": strategy, "template": {"spec": spec}},
    }
