"""Probes of a machine. Times are in seconds; defaults are the kubelet's."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated

from pilvi.api.core import Empty, HTTPHeader
from pilvi.api.field import IntOrString, Part, implemented, rejected

__all__ = ["MachineProbe"]

_NO_HOST = rejected("Another address.", "the machine's own address is asked", "leave it out", when="self != ''")


class ExecAction(Part):
    command: Annotated[list[str], implemented("Program and its arguments; exit code 0 is a success.")] = []


class PortProbe(Part):
    port: Annotated[IntOrString, implemented("Number of the port.")]
    host: Annotated[str | None, _NO_HOST] = None


class HttpProbe(Part):
    port: Annotated[IntOrString, implemented("Number of the port.")]
    host: Annotated[str | None, _NO_HOST] = None
    http_headers: Annotated[list[HTTPHeader], implemented("Headers of the request.")] = []
    path: Annotated[str | None, implemented("Path of the page.")] = None
    scheme: Annotated[str | None, implemented("HTTP or HTTPS; a certificate is not looked at.")] = None


class MachineProbe(Part):
    exec: Annotated[ExecAction | None, implemented("Runs a program in the guest, by its agent.")] = None
    failure_threshold: Annotated[int | None, implemented("Failures in a row that decide; default 3.")] = None
    guest_agent_ping: Annotated[Empty | None, implemented("Asks the guest's agent for an answer.")] = None
    http_get: Annotated[HttpProbe | None, implemented("Asks the machine for a page: 200 to 399 is a success.")] = None
    initial_delay_seconds: Annotated[int | None, implemented("Time after the start before the first try.")] = None
    period_seconds: Annotated[int | None, implemented("Time between tries; default 10.")] = None
    success_threshold: Annotated[int | None, implemented("Successes in a row that decide; default 1.")] = None
    tcp_socket: Annotated[PortProbe | None, implemented("Connects to a port of the machine.")] = None
    timeout_seconds: Annotated[int | None, implemented("Time that one try may take; default 1.")] = None
