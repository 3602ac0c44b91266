"""Virtual machines of the cloud that is measured: the tests' own guest, from a registry on loopback, as a user would apply it.

How long a machine takes until it runs and until its guest answers, what it needs beside the guest's memory, what its disk, its console and
its screen carry, how many start at once, how it moves to another virtual host, and how its disk is cloned. Floors are QEMU started by hand
and a raw file of the host. The home lies on XFS, which copies by reflink.
"""

import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.e2e.guests import ask_console, push_guest
from tests.images.bootsector import boot_disk
from tests.images.registry import make_layer, registry_in_thread

from bench.cloud import INSTANCES, BenchCloud, stopwatch, wait_for_object
from bench.fio_disk import make_fio_disk
from bench.floor.disk import JOBS, SIZE_MIB, figure, words
from bench.streams import console_bytes, screen_bytes
from bench.table import Row
from pilvi.lib.hashing import short_hash

RUNS = 3
AT_ONCE = 20
AT_ONCE_MIB = 64
OBJECTS = 100
MEMORY_MIB = 256
CLONE_GIB = 2
MIGRATIONS = "/apis/kubevirt.io/v1/virtualmachineinstancemigrations"
DATA_VOLUMES = "/apis/cdi.kubevirt.io/v1beta1/datavolumes"
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
FLOOR = Path(__file__).parent / "floor" / "machine.py"
SETTLE_S = 5.0


def measure_virtual_machines(cloud: BenchCloud, floors: dict[str, list[float]]) -> list[Row]:
    """All rows of virtual machines. Floors are those of `floor/machine.py`, `floor/disk.py`, `floor/move.py` and `floor/streams.py`."""
    times: dict[str, list[float]] = defaultdict(list)
    with registry_in_thread() as registry:
        image = push_guest(registry)
        boot = registry.add("boot", "1", make_layer({"disk/disk.img": boot_disk("up")}))
        fio = registry.add("fio", "1", make_layer({"disk/disk.img": make_fio_disk()}))
        _run(cloud, "first", image)  # it pulls the image
        for number in range(RUNS):
            for name, value in _run(cloud, f"guest-{number}", image).items():
                times[name].append(value)
        at_once = _start_many(cloud, boot)
        for name, values in _use(cloud, image, fio).items():
            times[name] += values
    times["cloned"], floors["cloned"] = _clone(cloud)
    objects = _objects_bytes(cloud)
    return [
        Row("VM created, Running", times["running"], floors["running"], "s"),
        Row("VM created, guest answers", times["answers"], floors["answers"], "s"),
        Row(f"{AT_ONCE} VMs at once, all Running", [at_once], floors["many"], "s"),
        Row(f"memory beside a guest of {MEMORY_MIB} MiB", times["qemu"], floors["qemu"], "MB"),
        Row("disk, write", times["write"], floors["write"], "MB/s"),
        Row("disk, read", times["read"], floors["read"], "MB/s"),
        Row("disk, one write of 4 KiB", times["write-4k"], floors["write-4k"], "ms"),
        Row("disk, one read of 4 KiB", times["read-4k"], floors["read-4k"], "ms"),
        Row("console", times["console"], floors["console"], "MB/s"),
        Row("screen (VNC, raw)", times["screen"], floors["screen"], "MB/s"),
        Row("migration, memory copied", times["moved"], floors["moved"], "ms"),
        Row("migration, guest stands still", times["down"], floors["down"], "ms"),
        Row("migration, object created, Succeeded", times["migrated"], floors["moved"], "ms"),
        Row(f"claim of {CLONE_GIB} GiB cloned", times["cloned"], floors["cloned"], "ms"),
        Row(f"engine memory, {OBJECTS} VM objects more", [objects], [], "MB"),
    ]


def _run(cloud: BenchCloud, name: str, image: str) -> dict[str, float]:
    """One machine from `kubectl apply` until its guest answers; it is deleted at the end."""
    found: dict[str, float] = {}
    with stopwatch() as watch:
        _apply(cloud, _machine(name, {"root": _container_disk(image)}, cpu="500m"))
        vmi = _wait_running(cloud, 1, name)
        (netns,) = cloud.netns("vpc-")
        address = vmi["status"]["interfaces"][0]["ipAddress"]
        running = time.monotonic()
        subprocess.run(["nsenter", f"--net=/run/netns/{netns}", sys.executable, FLOOR, "greets", address], check=True)
        answers_after_s = time.monotonic() - running
    found["answers"] = watch.seconds
    found["running"] = watch.seconds - answers_after_s
    found["qemu"] = cloud.beside_guest_bytes(f"m-{short_hash(vmi['metadata']['uid'])}", MEMORY_MIB << 20)
    _delete(cloud, f"vm/{name}")
    return found


def _start_many(cloud: BenchCloud, image: str) -> float:
    """Seconds until all run that are applied at once."""
    names = [f"many-{number}" for number in range(AT_ONCE)]
    with stopwatch() as watch:
        _apply(cloud, *(_machine(name, {"root": _container_disk(image)}, memory_mib=AT_ONCE_MIB) for name in names))
        _wait_running(cloud, AT_ONCE, "many-")
    _delete(cloud, *(f"vm/{name}" for name in names))
    return watch.seconds


def _use(cloud: BenchCloud, image: str, fio: str) -> dict[str, list[float]]:
    """What the devices of one guest carry, then its moves."""
    found: dict[str, list[float]] = defaultdict(list)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteMany"], "volumeMode": "Block", "resources": {"requests": {"storage": f"{SIZE_MIB}Mi"}}},
    }
    volumes = {"root": _container_disk(image), "fio": _container_disk(fio), "data": {"persistentVolumeClaim": {"claimName": "data"}}}
    _apply(cloud, claim, _machine("used", volumes, cpu="500m"))
    _wait_running(cloud, 1, "used")
    find = "disk() { echo /dev/$(grep -l $1 /sys/block/vd*/serial | cut -d/ -f4); }; "
    ask_console(cloud.kubeconfig, "default", "used", f"{find} mount $(disk fio) /mnt && mount --bind /dev /mnt/dev && disk data")
    for _ in range(RUNS):
        for job in JOBS:
            line = ask_console(cloud.kubeconfig, "default", "used", f"{find} chroot /mnt /usr/bin/{' '.join(words(job, '$(disk data)'))}")
            found[job].append(figure(job, line.strip().splitlines()[-1]))
        found["console"].append(console_bytes(cloud.kubeconfig, "used"))
        found["screen"].append(screen_bytes(cloud.kubeconfig, "used"))
    for number in range(RUNS):
        with stopwatch() as watch:
            migration = _migrate(cloud, f"move-{number}")
        found["migrated"].append(watch.seconds)
        for name, figures in (("moved", "total-ms"), ("down", "downtime-ms")):
            found[name].append(float(migration["metadata"]["annotations"][f"pilvi.dev/{figures}"]) / 1000)
    _delete(cloud, "vm/used", "pvc/data")
    return found


def _migrate(cloud: BenchCloud, name: str) -> dict[str, Any]:
    """Move the machine `used`; the migration that has succeeded."""
    ended: list[dict[str, Any]] = []
    metadata = {"name": name, "namespace": "default"}
    _apply(
        cloud,
        {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstanceMigration", "metadata": metadata, "spec": {"vmiName": "used"}},
    )

    def has_ended(found: dict[str, Any]) -> bool:
        if found["metadata"]["name"] == name and found.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            ended.append(found)
        return bool(ended)

    wait_for_object(cloud.platform, MIGRATIONS, has_ended)
    assert ended[0]["status"]["phase"] == "Succeeded", ended[0]
    return ended[0]


def _clone(cloud: BenchCloud) -> tuple[list[float], list[float]]:
    """Seconds of clones of a claim full of random bytes, each from the DataVolume's first state to Succeeded; those of `cp --reflink`."""
    _apply(cloud, _data_volume("image", {"blank": {}}))
    _wait_succeeded(cloud, "image")
    uid = cloud.platform.get(f"{CLAIMS}/image")["metadata"]["uid"]
    file = cloud.home / "volumes" / f"pvc-{uid}" / "disk.img"
    subprocess.run(
        ["dd", "if=/dev/urandom", f"of={file}", "bs=1M", f"count={CLONE_GIB << 10}", "conv=notrunc,fsync", "status=none"], check=True
    )
    cloned, floor = [], []
    for number in range(RUNS):
        name, copy = f"clone-{number}", file.with_name("bench-copy")
        follower = Follower(cloud, name)
        _apply(cloud, _data_volume(name, {"pvc": {"name": "image", "namespace": "default"}}))
        cloned.append(follower.seconds())
        with stopwatch() as watch:
            subprocess.run(["cp", "--reflink=always", file, copy], check=True)
        floor.append(watch.seconds)
        copy.unlink()
        _delete(cloud, f"dv/{name}")
    _delete(cloud, "dv/image")
    return cloned, floor


class Follower(threading.Thread):
    """Follows a DataVolume that is about to be made; another one must be there."""

    def __init__(self, cloud: BenchCloud, name: str) -> None:
        super().__init__(daemon=True)
        self._cloud, self._name = cloud, name
        self._begun = threading.Event()
        self._times: list[float] = []
        self.start()
        assert self._begun.wait(SETTLE_S)

    def seconds(self) -> float:
        """From its first state to Succeeded, as a watch tells."""
        self.join()
        return self._times[-1] - self._times[0]

    def run(self) -> None:
        for found in self._cloud.platform.watch(DATA_VOLUMES):
            self._begun.set()
            if found["metadata"]["name"] == self._name:
                self._times.append(time.monotonic())
                if found.get("status", {}).get("phase") == "Succeeded":
                    return


def _wait_succeeded(cloud: BenchCloud, name: str) -> None:
    wait_for_object(
        cloud.platform,
        DATA_VOLUMES,
        lambda found: found["metadata"]["name"] == name and found.get("status", {}).get("phase") == "Succeeded",
    )


def _objects_bytes(cloud: BenchCloud) -> float:
    """How much the engine grows with so many machines that are off."""
    before = cloud.engine_bytes()
    names = [f"stopped-{number}" for number in range(OBJECTS)]
    _apply(cloud, *(_machine(name, {"root": _container_disk("stopped:1")}, strategy="Halted") for name in names))
    time.sleep(SETTLE_S)
    after = cloud.engine_bytes()
    _delete(cloud, *(f"vm/{name}" for name in names))
    return after - before


def _wait_running(cloud: BenchCloud, number: int, prefix: str) -> dict[str, Any]:
    """Until so many instances run whose names begin so; the last one."""
    running: dict[str, dict[str, Any]] = {}

    def all_run(found: dict[str, Any]) -> bool:
        if found["metadata"]["name"].startswith(prefix) and found.get("status", {}).get("phase") == "Running":
            running[found["metadata"]["name"]] = found
        return len(running) == number

    wait_for_object(cloud.platform, INSTANCES, all_run)
    return list(running.values())[-1]


def _apply(cloud: BenchCloud, *objects: dict[str, Any]) -> None:
    cloud.pilvi("kubectl", "--", "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def _delete(cloud: BenchCloud, *names: str) -> None:
    cloud.pilvi("kubectl", "--", "delete", "--timeout=180s", *names)


def _container_disk(image: str) -> dict[str, Any]:
    return {"containerDisk": {"image": image}}


def _machine(
    name: str, volumes: dict[str, Any], *, memory_mib: int = MEMORY_MIB, cpu: str = "10m", strategy: str = "Always"
) -> dict[str, Any]:
    """A VirtualMachine with these volumes, whose disks have their names as serial numbers."""
    disks = [{"name": volume, "serial": volume, "disk": {"bus": "virtio"}} for volume in volumes]
    domain = {"memory": {"guest": f"{memory_mib}Mi"}, "resources": {"requests": {"cpu": cpu}}, "devices": {"disks": disks, "rng": {}}}
    spec = {
        "domain": domain,
        "volumes": [{"name": volume, **source} for volume, source in volumes.items()],
        "terminationGracePeriodSeconds": 0,
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"runStrategy": strategy, "template": {"spec": spec}},
    }


def _data_volume(name: str, source: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"source": source, "storage": {"resources": {"requests": {"storage": f"{CLONE_GIB}Gi"}}}},
    }
