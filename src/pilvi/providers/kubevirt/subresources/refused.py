"""KubeVirt's subresources that are not served: each is refused by its name, with the reason and what to do instead."""

from __future__ import annotations

from typing import Literal, NoReturn

from aiohttp import web

from pilvi.errors import BadRequest
from pilvi.providers.aggregation import Endpoint, Handler, refusal

__all__ = ["refused_endpoints"]

_SEV = "no machine has encrypted memory (launchSecurity)"
_GRAPH = "object graphs are not made; `pilvi why` shows what an object depends on"
_BACKUP = "backups are not made; back up from inside the guest"
_PROFILER = "the engine has no profiler"

_REFUSED: tuple[tuple[Literal["GET", "PUT"], str, tuple[str, ...], str], ...] = (
    ("GET", "objectgraph", ("virtualmachines", "virtualmachineinstances"), _GRAPH),
    ("PUT", "backup", ("virtualmachineinstances",), _BACKUP),
    ("PUT", "redefine-checkpoint", ("virtualmachineinstances",), _BACKUP),
    ("GET", "usbredir", ("virtualmachineinstances",), "devices of the client are not passed on; copy the data over the network"),
    ("GET", "vsock", ("virtualmachineinstances",), "machines have no vsock; use portforward, which needs an address only"),
    ("GET", "sev/fetchcertchain", ("virtualmachineinstances",), _SEV),
    ("GET", "sev/querylaunchmeasurement", ("virtualmachineinstances",), _SEV),
    ("PUT", "sev/setupsession", ("virtualmachineinstances",), _SEV),
    ("PUT", "sev/injectlaunchsecret", ("virtualmachineinstances",), _SEV),
)
_REFUSED_OF_GROUP = (
    ("guestfs", "there is no image of libguestfs; attach the disk to a machine to look into it"),
    ("start-cluster-profiler", _PROFILER),
    ("stop-cluster-profiler", _PROFILER),
    ("dump-cluster-profiler", _PROFILER),
)


def refused_endpoints() -> list[Endpoint]:
    """An endpoint for each."""
    of_objects = [
        Endpoint(method, resource, _refuse(f"{subresource} of {resource}", why), subresource)
        for method, subresource, resources, why in _REFUSED
        for resource in resources
    ]
    return [*of_objects, *(Endpoint("GET", name, _refuse(name, why), of="group") for name, why in _REFUSED_OF_GROUP)]


def _refuse(what: str, why: str) -> Handler:
    async def refuse(_request: web.Request) -> NoReturn:
        raise refusal(BadRequest, f"{what} is not served by pilvi: {why}")

    return refuse
