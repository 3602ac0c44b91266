"""What `kubectl logs`, `exec`, `attach` and `port-forward` on a virt-launcher Pod get: the command to use instead.

The Pod stands for a machine and has no container of its own. The platform's API server dials the host's kubelet for these, so a
refusal with words is answered there; without it people would read "connection refused".
"""

import asyncio
import ssl

from aiohttp import web

from pilvi.controlplane import ControlPlane
from pilvi.host.cloud import Cloud
from pilvi.providers.kubevirt.virtualhost.node import KUBELET_PORT


async def serve_kubelet(cloud: Cloud, plane: ControlPlane) -> None:
    """Answer on the host's address on the cloud bridge until cancelled."""
    # The API server does not check a kubelet's certificate here, and nothing secret is said; any pair that is at hand will do.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(plane.data_dir / "engine.crt", plane.data_dir / "engine.key")
    app = web.Application()
    app.router.add_route("*", "/{what}/{namespace}/{pod}{rest:.*}", _refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, str(cloud.host_address.ip), KUBELET_PORT, ssl_context=context).start()
        await asyncio.get_running_loop().create_future()
    finally:
        await runner.cleanup()


async def _refuse(request: web.Request) -> web.Response:
    return web.Response(status=501, text=explain(request.match_info["what"], request.match_info["namespace"], request.match_info["pod"]))


def explain(what: str, namespace: str, pod: str) -> str:
    """What to say to a request for the kubelet's path `what` of a Pod."""
    instead = {
        "containerLogs": "on the host, `pilvi logs NAMESPACE/MACHINE [--of kubelet]` shows what it wrote",
        "portForward": "dial the address of the VirtualMachineInstance from its VPC, or publish it with a Service of type LoadBalancer",
    }.get(what, "a worker's pods are reached by kubectl with the kubeconfig of its cluster (`pilvi kubectl --cluster NAME -- exec ...`)")
    return f"Pod {namespace}/{pod} stands for a machine and has no container; {instead}"
