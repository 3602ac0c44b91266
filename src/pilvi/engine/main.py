"""The engine's life: claim the cloud, bring the platform up, run all controllers, end when told to.

The only place that knows every provider. Ending it stops nothing but itself: units live on, and the next engine adopts them.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack

from pilvi import kit
from pilvi.api.cdi.upload import UPLOAD_PORT
from pilvi.api.export import EXPORT_PORT
from pilvi.controlplane import Flags
from pilvi.engine.dump import dump_on_signal
from pilvi.engine.serve.admission import serve_admission
from pilvi.engine.serve.aggregation import serve_aggregation
from pilvi.engine.serve.export import serve_export
from pilvi.engine.serve.health import serve_health
from pilvi.engine.serve.kubelet import serve_kubelet
from pilvi.engine.serve.listener import listen
from pilvi.engine.serve.upload import serve_upload
from pilvi.host.cloud import Cloud
from pilvi.host.units import Units
from pilvi.kube import Client
from pilvi.plane import aggregation
from pilvi.plane.admission import ADDRESS, PORT
from pilvi.plane.cluster_api import webhook_authority, webhook_certificate
from pilvi.plane.network import keep_cloud_network
from pilvi.plane.platform import platform_control_plane
from pilvi.plane.progress import Progress
from pilvi.plane.registry import keep_registry, node_disks
from pilvi.plane.up import add_machine_types, bring_up, finish, keep_certificates, keep_versions
from pilvi.providers import capk, cdi, kamaji, kubeovn, kubevirt, loadbalancer, storage
from pilvi.providers.platform import Platform, Settings
from pilvi.runtime import Controller, EventRecorder, Informers, Metrics, Supervisor
from pilvi.tenant import TenantClients, Tenants

log = logging.getLogger(__name__)

PROVIDERS = (kubeovn, loadbalancer, kamaji, capk, kubevirt, cdi, storage)


async def run_engine(cloud: Cloud, settings: Settings, plane_flags: Mapping[str, Flags]) -> None:
    """Run the engine of this cloud until SIGTERM or SIGINT. Raises what made the start fail, or what an essential task died of.

    `plane_flags` are more flags for components of the platform, by name.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel if task else loop.stop)
    dump_on_signal(loop)
    progress = Progress(cloud, os.getpid())
    try:
        await _run(cloud, settings, progress, plane_flags)
    except asyncio.CancelledError:
        log.info("told to stop; units of cloud %s live on", cloud.id)
    except BaseException as e:
        progress.failed(e)
        raise


async def _run(cloud: Cloud, settings: Settings, progress: Progress, plane_flags: Mapping[str, Flags]) -> None:
    units = Units(cloud)
    supervisor = Supervisor()
    supervisor.start("units", units.run())
    # The client outlives the tasks: one that is on its way out may still have to tell the API how a unit ended.
    async with AsyncExitStack() as stack:

        async def work() -> None:
            versions = kit.built_versions()
            client = await stack.enter_async_context(await bring_up(cloud, units, progress, versions, plane_flags))
            platform = await _start_controllers(cloud, settings, client, units, supervisor)
            supervisor.start("versions", keep_versions(cloud, client, versions))
            await finish(client, units, progress)
            progress.ready()
            log.info("cloud %s is ready", cloud.id)
            await add_machine_types(client)
            supervisor.start("registry", keep_registry(cloud, platform_control_plane(cloud), client, platform.informers, units))
            await asyncio.get_running_loop().create_future()  # until cancelled, with the supervisor

        await supervisor.run(work())


async def _start_controllers(cloud: Cloud, settings: Settings, client: Client, units: Units, supervisor: Supervisor) -> Platform:
    informers = Informers(client)
    metrics = Metrics()
    events = EventRecorder(client, "pilvi")
    tenants = TenantClients(cloud, informers)
    platform = Platform(cloud, client, informers, units, events, kit, tenants, settings)
    plane = platform_control_plane(cloud)
    platform.images.own = disks = node_disks(cloud, plane, client)
    controllers: list[Controller] = [controller for provider in PROVIDERS for controller in provider.controllers(platform)]
    for controller in controllers:
        controller.informers(informers)  # asked for before the informers run, so that all list at once
    checks = [check for provider in PROVIDERS for check in provider.checks(platform)]
    tokens, reception = cdi.uploads(platform)
    groups = (kubevirt.subresources(platform), tokens)
    supervisor.start("informers", informers.run())
    supervisor.start("events", events.run())
    supervisor.start("tenants", Tenants(informers, tenants, supervisor).run())
    for controller in controllers:
        supervisor.start(f"controller {controller.name}", controller.run(informers, metrics))
    supervisor.start("node disks", disks.run())
    supervisor.start("certificates", keep_certificates(cloud))
    supervisor.start("network", keep_cloud_network(cloud, plane))
    supervisor.start("health", serve_health(cloud, metrics, informers))
    supervisor.start("kubelet", serve_kubelet(cloud, plane))
    admission = serve_admission(listen(cloud, ADDRESS, PORT), webhook_certificate(plane), informers, checks, kubevirt.evictions(platform))
    supervisor.start("admission", admission)
    authority = webhook_authority(plane).read_bytes()
    supervisor.start(
        "aggregation",
        serve_aggregation(
            listen(cloud, cloud.platform_address.ip, aggregation.PORT),
            webhook_certificate(plane),
            plane.pki_dir / "front-proxy-ca.crt",
            client,
            groups,
            [obj for group in groups for obj in aggregation.api_services(group.name, group.versions, authority)],
        ),
    )
    certificate = (plane.pki_dir / "apiserver.crt", plane.pki_dir / "apiserver.key")
    address = cloud.platform_address.ip
    supervisor.start("upload", serve_upload(listen(cloud, address, UPLOAD_PORT), certificate, reception))
    supervisor.start("export", serve_export(listen(cloud, address, EXPORT_PORT), certificate, kubevirt.Delivery(platform)))
    return platform
