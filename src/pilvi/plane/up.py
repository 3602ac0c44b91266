"""From nothing, or from whatever an earlier engine left, to a platform that answers: the order of a start."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pilvi import kit
from pilvi.api import Key
from pilvi.api.builtin import CLUSTER_CLASSES
from pilvi.controlplane import (
    API_SERVER,
    FIRST_COMPONENTS,
    LATER_COMPONENTS,
    ControlPlane,
    File,
    Flags,
    file_set,
    install_files,
    serving_probe,
    unit_spec,
)
from pilvi.errors import ApiError, ApiUnreachable, UnitFailed
from pilvi.host.cloud import Cloud
from pilvi.host.units import Units
from pilvi.host.units.probes import Probe
from pilvi.kube import Client, Discovery, apply_all
from pilvi.lib.deadline import wait_for
from pilvi.lib.files import write_atomic
from pilvi.pki import kubeconfig_by_file, kubeconfig_inline
from pilvi.plane import aggregation, cluster_api, default_objects, machine_types
from pilvi.plane.admission import webhooks
from pilvi.plane.doctor import ensure_host_settings
from pilvi.plane.network import ensure_cloud_network
from pilvi.plane.platform import platform_control_plane
from pilvi.plane.platform_keys import PlatformKeys, ensure_platform_keys
from pilvi.plane.progress import Progress
from pilvi.plane.registry import install_certificate

READY_TIMEOUT_S = 120.0
CHANCES = 3
CERTIFICATES_CHECK_S = 6 * 3600.0
VERSIONS_CHECK_S = 5.0

log = logging.getLogger(__name__)


async def bring_up(
    cloud: Cloud, units: Units, progress: Progress, versions: Sequence[str], extra_flags: Mapping[str, Flags] | None = None
) -> Client:
    """Start or adopt the platform and give it its kinds; returns the engine's client, which the caller closes.

    `versions` are the Kubernetes versions that clusters may have for now (`keep_versions` looks after it). `extra_flags` are for
    components of the platform, by name. Everything is idempotent, so a start that was killed half way is just begun again. Raises
    UserError, UnitFailed, ApiError.
    """
    plane = platform_control_plane(cloud, extra_flags)
    ensure_host_settings(cloud)
    with progress.step("network"):
        await ensure_cloud_network(cloud, plane)
    with progress.step("certificates"):
        keys = ensure_platform_keys(cloud.home, plane)
        _install_files(cloud, plane, keys)
    with progress.step("etcd and API server"):
        await _ensure_units(units, plane, FIRST_COMPONENTS)
        # Its last hook waits a second before it makes the default roles, which the engine needs for nothing.
        await _wait_ready(units, plane.unit(API_SERVER), serving_probe(plane))
    client = Client.open(engine_kubeconfig(plane), user_agent="pilvi-engine")
    try:
        await _install_kinds(client, cloud, units, plane, keys, progress, versions)
    except BaseException:
        await client.aclose()
        raise
    return client


async def finish(client: Client, units: Units, progress: Progress) -> None:
    """Wait for Cluster API's managers and apply what their webhooks check; the controllers run meanwhile."""
    with progress.step("Cluster API"):
        for manager in cluster_api.MANAGERS:
            await _wait_ready(units, manager.unit)
        await _create_cluster_class(client)


async def add_machine_types(client: Client) -> None:
    """Make the common instancetypes and preferences that are missing, when the cloud is ready: nothing waits for them.

    A start has no processor to spare. What cannot be made now is made at the next one.
    """
    try:
        await machine_types.create_missing(client)
    except (ApiError, ApiUnreachable) as e:
        log.warning("the common instancetypes cannot be made now: %s", e)


async def _wait_ready(units: Units, name: str, probe: Probe | None = None) -> None:
    """Wait until the unit is ready, or `probe` answers.

    Supervision starts one that dies again, and only the third death in a row is a failure.
    """
    for chances in reversed(range(CHANCES)):
        try:
            return await units.wait_ready(name, READY_TIMEOUT_S, probe)
        except UnitFailed:
            if not chances:
                raise
            await wait_for(lambda: units.state(name).state == "running", READY_TIMEOUT_S, f"unit {name} to be started again")
    return None


async def keep_certificates(cloud: Cloud) -> None:
    """Renew the platform's certificates for as long as the engine runs, which may be longer than they live. Ends by cancellation only."""
    plane = platform_control_plane(cloud)
    while True:
        await asyncio.sleep(CERTIFICATES_CHECK_S)
        try:
            _install_files(cloud, plane, ensure_platform_keys(cloud.home, plane))
        except OSError as e:
            log.warning("the platform's certificates cannot be renewed now: %s", e)  # a third of their life is left for it


async def keep_versions(cloud: Cloud, client: Client, applied: Sequence[str]) -> None:
    """Apply the policies again whenever the kit has other Kubernetes versions than those `applied`. Ends by cancellation only."""
    while True:
        versions = await asyncio.to_thread(kit.built_versions)
        if versions != applied:
            try:
                await apply_all(client, default_objects.policies(cloud, versions), manager=default_objects.MANAGER)
            except (ApiError, ApiUnreachable) as e:
                log.warning("policies cannot be applied now: %s", e)
            else:
                log.info("clusters may have Kubernetes %s", ", ".join(versions))
                applied = versions
        await asyncio.sleep(VERSIONS_CHECK_S)


async def _create_cluster_class(client: Client) -> None:
    """Create the ClusterClass unless there is one: changing it would replace every worker of every cluster."""
    cluster_class, *templates = default_objects.cluster_class()
    if await client.find(CLUSTER_CLASSES, Key.of(cluster_class)) is None:
        await apply_all(client, [*templates, cluster_class], manager=default_objects.MANAGER)


async def _install_kinds(
    client: Client, cloud: Cloud, units: Units, plane: ControlPlane, keys: PlatformKeys, progress: Progress, versions: Sequence[str]
) -> None:
    discovery = Discovery(client)

    async def apply(objects: list[dict[str, object]]) -> None:
        await apply_all(client, objects, manager=default_objects.MANAGER, discovery=discovery)

    with progress.step("kinds and policies"):
        await apply([*cluster_api.manifests(keys), *default_objects.kinds()])
        await _wait_ready(units, plane.unit(API_SERVER))
        # After the kinds: the garbage collector looks for new ones every 30 s only, and what goes by its owner would wait for that.
        managers = [units.ensure(cluster_api.manager_unit(plane, manager)) for manager in cluster_api.MANAGERS]
        await asyncio.gather(_ensure_units(units, plane, LATER_COMPONENTS), *managers)
        endpoint = aggregation.service_objects(cloud.platform_address.ip)
        policies = default_objects.policies(cloud, versions)
        await apply([*policies, webhooks(keys.webhook_ca.certificate), *default_objects.defaults(), *endpoint])


async def _ensure_units(units: Units, plane: ControlPlane, components: tuple[str, ...]) -> None:
    await asyncio.gather(*(units.ensure(unit_spec(plane, component)) for component in components))


def _install_files(cloud: Cloud, plane: ControlPlane, keys: PlatformKeys) -> None:
    install_files(plane, file_set(plane, keys.control_plane))
    cluster_api.install_manager_files(cloud, plane, keys)
    if keys.registry is not None:
        install_certificate(cloud, keys.registry)
    engine = plane.data_dir / "engine"
    install_files(
        plane,
        [
            File(engine.with_suffix(".crt"), keys.engine.certificate),
            File(engine.with_suffix(".key"), keys.engine.key),
            File(
                engine_kubeconfig(plane),
                kubeconfig_by_file(
                    plane.server,
                    plane.pki_dir / "ca.crt",
                    engine.with_suffix(".crt"),
                    engine.with_suffix(".key"),
                    cluster=plane.cluster_name,
                    user="engine",
                ),
            ),
        ],
    )
    admin = kubeconfig_inline(
        plane.server,
        keys.control_plane.authorities["ca"].certificate,
        keys.control_plane.leaves["admin"],
        cluster=plane.cluster_name,
        user=f"{plane.cluster_name}-admin",
    )
    write_atomic(cloud.home / "admin.conf", admin, mode=0o600)


def engine_kubeconfig(plane: ControlPlane) -> Path:
    """The kubeconfig of the engine itself; its certificates are reloaded from files."""
    return plane.kubeconfig("engine")
