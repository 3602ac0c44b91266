"""One cloud for the whole run and a namespace per scenario; what a scenario leaves on the host fails it."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pilvi.lib.hashing import short_hash
from tests.e2e.cloud import CloudUnderTest, cluster_manifest, to_yaml, wait_until
from tests.e2e.host import host_as_before, things_of
from tests.e2e.workload import Workload, build_image

SCENARIO_TIMEOUT_S = 1200
# What scenarios make that has something on the host, with what it stands on; all else goes with the namespace.
HEAVY_KINDS = "clusters,virtualmachineinstancereplicasets,virtualmachines,virtualmachineinstances,virtualmachinesnapshots"
HEAVY_KINDS += ",virtualmachinerestores,virtualmachineclones,dataimportcrons,datavolumes,persistentvolumeclaims"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(SCENARIO_TIMEOUT_S))


@pytest.fixture(scope="session")
def shared_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudUnderTest]:
    """The cloud of the run, started as the README says: with a manifest of a first cluster. At its end the host is as it was before.

    With PILVI_TEST_HOME the cloud there is used and left alone, which saves a minute while a scenario is written.
    """
    manifest = tmp_path_factory.mktemp("manifest") / "first-cluster.yaml"
    manifest.write_text(to_yaml(cluster_manifest("first", "default")))
    if home := os.environ.get("PILVI_TEST_HOME"):
        cloud = CloudUnderTest("shared", Path(home))
        cloud.first_up(manifest)
        yield cloud
        return
    with host_as_before():
        cloud = CloudUnderTest("shared")
        try:
            cloud.first_up(manifest)
            yield cloud
            wait_until(lambda: not _leaving(cloud), lambda: f"namespaces {_leaving(cloud)} to go")
        except BaseException:
            cloud.report("shared-cloud")
            raise
        finally:
            cloud.purge()


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the image of all test pods."""
    return build_image(tmp_path_factory.mktemp("image"))


@pytest.fixture(autouse=True)
def _report(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep a report archive of every cloud that a failed scenario has used."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed > failed_before:
        clouds = {value for value in request.node.funcargs.values() if isinstance(value, CloudUnderTest)}
        for cloud in clouds:
            cloud.report(re.sub(r"\W+", "-", request.node.name))


@pytest.fixture
def cloud(shared_cloud: CloudUnderTest) -> CloudUnderTest:
    return shared_cloud


@contextmanager
def cloud_of_its_own(name: str, *up_words: str) -> Iterator[CloudUnderTest]:
    """A cloud that is up, and purged at the end; for scenarios that kill, purge or double the plane. The host is then as it was before."""
    with host_as_before():
        cloud = CloudUnderTest(name)
        try:
            cloud.up(*up_words)
            yield cloud
        except BaseException:
            cloud.report(name)
            raise
        finally:
            cloud.purge()


@contextmanager
def namespaces_of(cloud: CloudUnderTest, *titles: str) -> Iterator[list[str]]:
    """Namespaces of a scenario's own, deleted at the end; every machine, disk and control plane of theirs must have gone with them.

    Kubernetes leaves a namespace alone for five seconds before it looks into it, and as long between two looks. So what is in them
    is deleted by hand, and the empty namespaces go while the next scenario runs; `shared_cloud` sees that they do.
    """
    names = [_namespace_name(title) for title in titles]
    before = things_of(cloud)
    for name in names:
        cloud.kubectl("create", "namespace", name)
    try:
        yield names
    finally:
        cloud.kubectl("delete", "namespace", *names, "--wait=false", "--ignore-not-found")
        for name in names:
            cloud.kubectl("-n", name, "delete", HEAVY_KINDS, "--all", "--wait=false")
    left: set[str] = set()

    def as_before() -> bool:
        left.clear()
        left.update(things_of(cloud) - before)
        left.update(key for kind in ("vpcs", "subnets", "ips") for key in _of_namespaces(cloud.items(kind), names))
        left.update(line for name in names for line in cloud.kubectl("-n", name, "get", HEAVY_KINDS, "-o", "name").splitlines())
        return not left

    wait_until(as_before, lambda: f"the host to be as before namespaces {names}; left are {sorted(left)}")


def _leaving(cloud: CloudUnderTest) -> list[str]:
    """The namespaces that are being deleted."""
    return [found["metadata"]["name"] for found in cloud.items("namespaces") if found["metadata"].get("deletionTimestamp")]


def _namespace_name(title: str) -> str:
    """Short enough for the names of clusters below it, and no other scenario's: what is known of a cluster goes by its name."""
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return name if len(name) <= 40 else f"{name[:31].rstrip('-')}-{short_hash(name)}"


def _of_namespaces(objects: list[Any], names: list[str]) -> list[str]:
    """Cluster-scoped objects that one of these namespaces has left behind."""
    return [obj["metadata"]["name"] for obj in objects if {*names} & {*(obj["metadata"].get("labels") or {}).values()}]


@pytest.fixture
def namespace(cloud: CloudUnderTest, request: pytest.FixtureRequest) -> Iterator[str]:
    with namespaces_of(cloud, request.node.name.removeprefix("test_")) as (name,):
        yield name


@pytest.fixture(scope="module")
def module_namespace(shared_cloud: CloudUnderTest, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for all scenarios of one file."""
    with namespaces_of(shared_cloud, request.node.name.rpartition("test_")[2].removesuffix(".py")) as (name,):
        yield name


ClusterMaker = Callable[..., Workload]


@pytest.fixture
def create_cluster(cloud: CloudUnderTest, namespace: str, image: Path) -> ClusterMaker:
    """Make a cluster in the scenario's namespace and wait until it is ready: `create_cluster(name, workers=1, ...)`."""

    def create(name: str, workers: int = 1, **fields: object) -> Workload:
        cloud.apply(cluster_manifest(name, namespace, workers=workers, **fields))
        cloud.wait_for_cluster(f"{namespace}/{name}", workers)
        return Workload(cloud, f"{namespace}/{name}", image)

    return create
