"""Each wrong input gets an answer that says what is wrong and what to do, and nothing is half-made."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cloud import PILVI, VERSION, CloudUnderTest, cluster_manifest, run, wait_until
from tests.e2e.host import host_as_before

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture(scope="module")
def paused(shared_cloud: CloudUnderTest, module_namespace: str) -> Iterator[str]:
    """A cluster that exists as an object only: paused before anything was made of it."""
    shared_cloud.apply(cluster_manifest("paused", module_namespace, workers=1, paused=True))
    yield f"{module_namespace}/paused"
    # Cluster API leaves a paused cluster alone even when it is deleted, and here is nothing to clean up.
    shared_cloud.kubectl("-n", module_namespace, "delete", "cluster", "paused", "--wait=false")
    shared_cloud.kubectl("-n", module_namespace, "patch", "cluster", "paused", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


@pytest.fixture(autouse=True)
def _nothing_is_made(shared_cloud: CloudUnderTest, module_namespace: str, paused: str) -> Iterator[None]:
    yield
    kinds = "clusters,kubevirtclusters,kamajicontrolplanes,tenantcontrolplanes,kubevirtmachinetemplates,machines,virtualmachines,secrets"
    names = shared_cloud.kubectl("-n", module_namespace, "get", kinds, "-o", "name").split()
    assert names == ["cluster.cluster.x-k8s.io/paused"]


def failed(cloud: CloudUnderTest, *words: str, code: int = 1, **environment: Any) -> str:
    """What a command printed that had to fail in that way; never a traceback."""
    done = cloud.pilvi(*words, check=False, **environment)
    printed = done.stdout + done.stderr
    assert "Traceback" not in printed, printed
    assert done.returncode == code, printed
    return printed


# Clusters


def test_unknown_version(cloud: CloudUnderTest, module_namespace: str) -> None:
    control_plane = {
        "apiVersion": "controlplane.cluster.x-k8s.io/v1alpha2",
        "kind": "KamajiControlPlane",
        "metadata": {"name": "new", "namespace": module_namespace},
        "spec": {"version": "v1.99.0"},
    }
    for printed in (
        failed(cloud, "cluster", "create", f"{module_namespace}/new", "--version", "v1.99.0", code=2),
        cloud.refused(control_plane),
        cloud.refused(cluster_manifest("new", module_namespace, version="v1.99.0")),
    ):
        assert "1.99.0" in printed
        assert VERSION in printed, "it lists the versions that there are"


def test_overlapping_ranges(cloud: CloudUnderTest, module_namespace: str) -> None:
    own = cloud.status()["cloud"]["range"]
    for network, words in (
        ({"pods": {"cidrBlocks": ["10.96.0.0/12"]}}, ("pods 10.96.0.0/12", "services 10.96.0.0/16")),
        ({"pods": {"cidrBlocks": ["10.250.0.0/16"]}}, ("10.250.0.0/16", f"the cloud's range {own}")),
        ({"services": {"cidrBlocks": ["100.64.0.0/10"]}}, ("100.64.0.0/10", "the cloud's transit pool")),
    ):
        printed = cloud.refused(cluster_manifest("overlap", module_namespace, clusterNetwork=network))
        assert all(word in printed for word in (*words, "overlap", "choose ranges")), printed


def test_a_range_with_host_bits(cloud: CloudUnderTest, module_namespace: str) -> None:
    network = {"pods": {"cidrBlocks": ["10.244.0.5/16"]}}
    printed = cloud.refused(cluster_manifest("bits", module_namespace, clusterNetwork=network))
    assert "must be IPv4 networks" in printed, printed
    assert "10.244.0.5/16" in printed, printed


def make_subnet(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "kubeovn.io/v1", "kind": "Subnet", "metadata": {"name": name}, "spec": spec}


def test_a_subnet_that_overlaps_the_pods_of_its_cluster(cloud: CloudUnderTest, module_namespace: str) -> None:
    """Refused when the Subnet is known; when it comes later, the cluster says so."""
    manifest = cluster_manifest("overlap", module_namespace)
    manifest["spec"]["topology"]["variables"] = [{"name": "subnet", "value": "overlap"}]
    words = ("10.244.0.0/16", "10.244.7.0/24", "overlap")

    def refused() -> bool:
        printed = cloud.kubectl("apply", "--dry-run=server", "-f", "-", manifest=manifest, check=False)
        return "denied the request" in printed and all(word in printed for word in words)

    cloud.apply(make_subnet("overlap", cidrBlock="10.244.7.0/24"))
    try:
        wait_until(refused, "the webhook to know the Subnet", 30, 0.2)
    finally:
        cloud.kubectl("delete", "subnet", "overlap")
    # Paused, since its control plane would stand against the Subnet as soon as it is there.
    manifest["spec"]["paused"] = True
    assert "there is no Subnet overlap; create it" in cloud.kubectl("apply", "-f", "-", manifest=manifest, check=False)
    try:
        cloud.apply(make_subnet("overlap", cidrBlock="10.244.7.0/24"))
        cloud.kubectl("-n", module_namespace, "patch", "cluster", "overlap", "--type=merge", "-p", '{"spec":{"paused":false}}')

        def told() -> bool:
            printed = cloud.pilvi("why", f"cluster/{module_namespace}/overlap", check=False).stdout
            return all(word in printed for word in words)

        wait_until(told, "`pilvi why` to name both ranges", 60, 1)
    finally:
        cloud.kubectl("-n", module_namespace, "delete", "cluster", "overlap")
        cloud.kubectl("delete", "subnet", "overlap", "--ignore-not-found")


def test_a_subnet_that_overlaps_another_or_the_cloud(cloud: CloudUnderTest) -> None:
    own = cloud.status()["cloud"]["range"]
    for cidr, words in (("10.16.7.0/24", "of Subnet ovn-default in the same Vpc ovn-cluster"), (own, f"the cloud's range {own}")):
        printed = cloud.refused(make_subnet("overlap", cidrBlock=cidr))
        assert "denied the request" in printed
        assert words in printed
        assert "choose another network" in printed


def test_names(cloud: CloudUnderTest, module_namespace: str, paused: str) -> None:
    long = "n" * 64
    printed = failed(cloud, "cluster", "create", f"{module_namespace}/{long}", code=2)
    assert long in printed
    assert "63" in printed
    assert "63" in cloud.refused(cluster_manifest(long, module_namespace))
    for wrong in ("1st", "a.b"):
        assert wrong in failed(cloud, "cluster", "create", f"{module_namespace}/{wrong}", code=2)
        assert "a letter first, no dots" in cloud.refused(cluster_manifest(wrong, module_namespace))
    assert f"there is a cluster {paused} already" in failed(cloud, "cluster", "create", paused)


# That no minor is skipped needs a cluster of a version before the last, which a kit with one minor cannot make: tests/plane/test_crds.py.
@pytest.mark.parametrize(("version", "words"), [("v1.36.3", "cannot go back"), ("v1.39.0", VERSION)], ids=["downgrade", "unknown"])
def test_versions_go_neither_back_nor_to_what_there_is_not(cloud: CloudUnderTest, paused: str, version: str, words: str) -> None:
    namespace, name = paused.split("/")
    patch = json.dumps({"spec": {"topology": {"version": version}}})
    printed = cloud.kubectl("-n", namespace, "patch", "cluster", name, "--type=merge", "-p", patch, check=False)
    assert words in printed
    assert cloud.get("-n", namespace, "cluster", name)["spec"]["topology"]["version"] == VERSION


def test_numbers_and_sizes(cloud: CloudUnderTest, module_namespace: str, paused: str) -> None:
    for workers in ("-1", "many"):
        assert "--workers" in failed(cloud, "cluster", "create", f"{module_namespace}/new", "--workers", workers, code=2)
        assert "--workers" in failed(cloud, "cluster", "scale", paused, "--workers", workers, code=2)
    assert "replicas must be 0 or more" in cloud.refused(cluster_manifest("new", module_namespace, workers=-1))
    for variable, value in (("cpu", 0), ("cpu", -2), ("memory", "0Gi"), ("memory", "-1Gi")):
        manifest = cluster_manifest("new", module_namespace)
        manifest["spec"]["topology"]["variables"] = [{"name": variable, "value": value}]
        assert variable in cloud.refused(manifest)


# Machines


def machine_template(namespace: str, **template: Any) -> dict[str, Any]:
    spec = {"domain": {"memory": {"guest": "1Gi"}, "devices": {}}, **template}
    return {
        "apiVersion": "infrastructure.cluster.x-k8s.io/v1alpha1",
        "kind": "KubevirtMachineTemplate",
        "metadata": {"name": "worker", "namespace": namespace},
        "spec": {"template": {"spec": {"virtualMachineTemplate": {"spec": {"runStrategy": "Always", "template": {"spec": spec}}}}}},
    }


IMAGE = [{"name": "root", "containerDisk": {"image": f"pilvi.dev/node:{VERSION}"}}]


def test_machine_template_without_image_or_memory(cloud: CloudUnderTest, module_namespace: str) -> None:
    printed = cloud.refused(machine_template(module_namespace))
    assert "volumes: the machine has no image" in printed
    assert "pilvi.dev/node" in printed
    for memory in ("0", "-1Gi"):
        domain = {"memory": {"guest": memory}, "devices": {}}
        assert "memory.guest" in cloud.refused(machine_template(module_namespace, volumes=IMAGE, domain=domain))


def test_edit_of_a_template_says_what_to_do_instead(cloud: CloudUnderTest, module_namespace: str) -> None:
    cloud.apply(machine_template(module_namespace, volumes=IMAGE))
    try:
        changed = machine_template(module_namespace, volumes=IMAGE, domain={"memory": {"guest": "2Gi"}, "devices": {}})
        printed = cloud.refused(changed)
        assert "make a new KubevirtMachineTemplate" in printed
        assert "worker-2" in printed
    finally:
        cloud.kubectl("-n", module_namespace, "delete", "kubevirtmachinetemplate", "worker")


# The host


def test_not_root(cloud: CloudUnderTest) -> None:
    for words in (["up"], ["down"], ["kit", "build"]):
        done = run([*NOBODY, str(PILVI), *words], env=cloud.environment, check=False)
        assert done.returncode == 1
        assert "has to be run as root" in done.stderr
        assert f"sudo {PILVI} {' '.join(words)}" in done.stderr
        assert "Traceback" not in done.stderr


def test_address_ranges(cloud: CloudUnderTest) -> None:
    own = cloud.status()["cloud"]["range"]
    with folder() as place:
        for wrong, words in {
            own: f"range {own} overlaps",
            "10.250.0.0/33": "is not an IPv4 network",
            "cloud": "is not an IPv4 network",
            "10.0.0.0/8": "too large",
            "10.250.9.0/30": "too small",
            "127.0.0.0/24": "not for hosts",
        }.items():
            code = 1 if "overlaps" in words else 2
            printed = failed(cloud, "up", "--home", str(place / "home"), "--range", wrong, code=code)
            assert words in printed
        assert not (place / "home").exists()
    printed = failed(cloud, "up", "--range", "10.77.0.0/24")
    assert "cannot be changed to 10.77.0.0/24" in printed


def test_home_that_units_cannot_reach(cloud: CloudUnderTest) -> None:
    with folder(mode=0o700) as closed:
        printed = failed(cloud, "up", "--home", str(closed / "home"))
        assert str(closed) in printed
        assert "chmod" in printed
        assert not (closed / "home" / "cloud.json").exists()


def test_home_of_a_newer_pilvi(cloud: CloudUnderTest) -> None:
    with folder() as home:
        (home / "cloud.json").write_text(json.dumps({"format": 99, "id": "newer"}))
        for command in ("up", "down", "status"):
            printed = failed(cloud, command, "--home", str(home))
            assert "format 99" in printed
            assert "install the newer pilvi" in printed
        assert [path.name for path in home.iterdir()] == ["cloud.json"]


def test_second_up_at_the_same_time(cloud: CloudUnderTest) -> None:
    """The first one is stopped in the middle, where it holds the home."""
    first = subprocess.Popen([str(PILVI), "up"], env=cloud.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: _holds_lock(first), "the first `pilvi up` to be at work", 60, 0)
        os.kill(first.pid, signal.SIGSTOP)
        for command in ("up", "down"):
            printed = failed(cloud, command)
            assert f"another pilvi command, process {first.pid}, works on" in printed
            assert "wait until it has ended" in printed
    finally:
        os.kill(first.pid, signal.SIGCONT)
        first.communicate(timeout=600)
    assert first.returncode == 0
    assert cloud.status()["engine"]["pid"]


def _holds_lock(process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "it was over before it was seen to hold the lock"
    names = [os.readlink(path) for path in Path(f"/proc/{process.pid}/fd").iterdir() if path.is_symlink()]
    # It says who it is a moment after it has the lock.
    return any(name.startswith("/run/pilvi/home-") and Path(name).read_text() == str(process.pid) for name in names)


def test_disk_too_small(cloud: CloudUnderTest) -> None:
    with folder() as place, small_disk(place, "32M"):
        assert "choose another --home" in failed(cloud, "up", "--home", str(place / "cloud"))
        assert not (place / "cloud").exists()
        assert "free" in failed(cloud, "kit", "build", PILVI_CACHE=str(place / "kit"))


def test_disk_full_while_running() -> None:
    """The cloud says what is wrong, also while its own store cannot write; with space again it goes on by itself."""
    with host_as_before(), folder() as place, small_disk(place, "2500M"):
        home = place / "cloud"
        home.mkdir()
        cloud = CloudUnderTest("full", home)
        try:
            cloud.up()
            rest = place / "rest"
            with suppress(OSError), rest.open("wb") as file:
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
            refused = cloud.pilvi("cluster", "create", "late", "--no-wait", check=False, timeout_s=120)
            assert "Traceback" not in refused.stderr
            status = cloud.status()
            assert "the disk is full: 0 MiB free" in status["cloud"]["cause"]
            assert "the disk is full" in cloud.pilvi("status").stdout, "a person is told too"
            printed = failed(cloud, "up", "--timeout", "60")
            assert "0.0 GiB free" in printed
            assert "choose another --home" in printed
            rest.unlink()
            cloud.up()
            # What was refused or lost can be asked for again.
            wait_until(lambda: cloud.kubectl("create", "namespace", "later"), "the API to take objects again")
            status = cloud.status()
            assert (status["api"], status["cloud"]["cause"]) == ("", "")
        except BaseException:
            cloud.report("disk-full")
            raise
        finally:
            cloud.purge()


def test_missing_kernel_feature(cloud: CloudUnderTest) -> None:
    """A kernel without overlay, as far as the kernel's own list of file systems tells."""
    with folder() as place:
        (place / "filesystems").write_text("nodev\ttmpfs\n\text4\n")
        script = 'mount --bind "$1" /proc/filesystems && exec "$2" "$3"'
        for word in ("doctor", "up"):
            argv = ["unshare", "--mount", "sh", "-c", script, "sh", str(place / "filesystems"), str(PILVI), word]
            done = run(argv, env={**cloud.environment, "PILVI_HOME": str(place / "home")}, check=False)
            printed = done.stdout + done.stderr
            assert done.returncode == 1, printed
            assert "overlay is missing" in printed
            assert "modprobe overlay" in printed
        assert not (place / "home" / "cloud.json").exists()


@contextmanager
def folder(mode: int = 0o755) -> Iterator[Path]:
    """A folder that units with users of their own can reach, unless `mode` closes it."""
    with tempfile.TemporaryDirectory(prefix="pilvi-test-input-", dir="/var/lib") as name:
        Path(name).chmod(mode)
        yield Path(name)


@contextmanager
def small_disk(point: Path, size: str) -> Iterator[None]:
    """A file system of that size on `point`."""
    with tempfile.NamedTemporaryFile(prefix="pilvi-test-disk-") as image:
        for argv in (
            ["truncate", "--size", size, image.name],
            ["mkfs.ext4", "-q", "-m", "0", image.name],
            ["mount", image.name, str(point)],
        ):
            run(argv)
        point.chmod(0o755)
        try:
            yield
        finally:
            run(["umount", str(point)])
