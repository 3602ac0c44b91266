"""One cloud for the whole run and a namespace per scenario; what a scenario leaves on the host fails it."""

import re
from collections.abc import Iterator

import pytest

from tests.e2e.cloud import CloudUnderTest, wait_until


@pytest.fixture(scope="session")
def shared_cloud() -> Iterator[CloudUnderTest]:
    cloud = CloudUnderTest("shared")
    try:
        cloud.up()
        yield cloud
    finally:
        cloud.purge()


@pytest.fixture
def cloud(shared_cloud: CloudUnderTest, request: pytest.FixtureRequest) -> Iterator[CloudUnderTest]:
    """The shared cloud; keeps a report when the scenario fails."""
    failed_before = request.session.testsfailed
    yield shared_cloud
    if request.session.testsfailed > failed_before:
        shared_cloud.report(request.node.name)


@pytest.fixture
def namespace(cloud: CloudUnderTest, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the scenario's own, deleted at the end; every machine and control plane of it must have gone with it."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40]
    before = host_things(cloud)
    cloud.kubectl("create", "namespace", name)
    yield name
    cloud.kubectl("delete", "namespace", name, "--wait=false")
    wait_until(lambda: not cloud.kubectl("get", "namespace", name, "--ignore-not-found"), f"namespace {name} to go")
    wait_until(lambda: host_things(cloud) <= before, f"the host to be as before namespace {name}; more is there now")


def host_things(cloud: CloudUnderTest) -> set[str]:
    """Everything on the host that belongs to the cloud, apart from what comes and goes by itself."""
    from tests.e2e.host import things_of

    return things_of(cloud.home)
