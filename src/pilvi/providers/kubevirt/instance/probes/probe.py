"""What a probe asks and how its answers count. Pure. Defaults and counting are the kubelet's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pilvi.api.resource import JsonObject
from pilvi.errors import UserError

__all__ = ["PROBES", "AskHttp", "AskPort", "Ping", "Probe", "ProbeName", "Run", "Tally", "read_probe"]

ProbeName: TypeAlias = Literal["readinessProbe", "livenessProbe"]
PROBES: tuple[ProbeName, ...] = ("readinessProbe", "livenessProbe")


@dataclass(frozen=True)
class Run:
    """A program of the guest has to end with exit code 0; its agent runs it."""

    argv: tuple[str, ...]


@dataclass(frozen=True)
class Ping:
    """The guest's agent has to answer."""


@dataclass(frozen=True)
class AskPort:
    """A TCP port of the machine has to take a connection."""

    port: int


@dataclass(frozen=True)
class AskHttp:
    """A page has to be there: an answer from 200 to 399. A certificate is not looked at."""

    port: int
    scheme: Literal["http", "https"] = "http"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()


Action: TypeAlias = Run | Ping | AskPort | AskHttp


@dataclass(frozen=True)
class Probe:
    """One probe; times in seconds, `successes` and `failures` are how many in a row decide."""

    action: Action
    initial_delay_s: float
    period_s: float
    timeout_s: float
    successes: int
    failures: int


@dataclass
class Tally:
    """How a probe stands. `good` changes only after as many equal answers in a row as the probe asks for."""

    probe: Probe
    good: bool
    trouble: str = ""
    _row: int = 0
    _last: bool | None = field(default=None, repr=False)

    def count(self, trouble: str | None) -> bool:
        """Take one answer, None for a good one; returns whether `good` or the words about it have changed."""
        answer = trouble is None
        self._row = self._row + 1 if answer == self._last else 1
        self._last = answer
        if self._row < (self.probe.successes if answer else self.probe.failures):
            return False
        before = (self.good, self.trouble)
        self.good, self.trouble = answer, trouble or ""
        return before != (self.good, self.trouble)


def read_probe(vmi_spec: JsonObject, name: ProbeName) -> Probe | None:
    """The probe of an instance; None without one. Raises UserError that names the field."""
    given = vmi_spec.get(name)
    if given is None:
        return None
    probe = Probe(
        action=_read_action(given, f"spec.{name}"),
        initial_delay_s=float(given.get("initialDelaySeconds") or 0),
        period_s=float(given.get("periodSeconds") or 10),
        timeout_s=float(given.get("timeoutSeconds") or 1),
        successes=int(given.get("successThreshold") or 1),
        failures=int(given.get("failureThreshold") or 3),
    )
    if min(probe.initial_delay_s, probe.period_s - 1, probe.timeout_s - 1, probe.successes - 1, probe.failures - 1) < 0:
        raise UserError(f"spec.{name} has a negative number", hint="write positive ones, or leave them out")
    if name == "livenessProbe" and probe.successes != 1:
        raise UserError(f"spec.{name}.successThreshold is {probe.successes}", hint="write 1, or leave it out")
    return probe


def _read_action(given: JsonObject, path: str) -> Action:
    present = [kind for kind in ("exec", "guestAgentPing", "tcpSocket", "httpGet") if given.get(kind) is not None]
    if len(present) != 1:
        raise UserError(
            f"{path} has {' and '.join(present) or 'nothing to ask'}", hint="write one of exec, guestAgentPing, tcpSocket and httpGet"
        )
    (kind,) = present
    asked = given[kind]
    match kind:
        case "exec":
            if not asked.get("command"):
                raise UserError(f"{path}.exec.command is empty", hint="write the program and its arguments as a list")
            return Run(tuple(asked["command"]))
        case "guestAgentPing":
            return Ping()
    port = _read_port(asked.get("port"), f"{path}.{kind}.port")
    if asked.get("host"):
        raise UserError(f"{path}.{kind}.host is not supported", hint="leave it out: the machine's own address is asked")
    if kind == "tcpSocket":
        return AskPort(port)
    headers = tuple((str(header["name"]), str(header["value"])) for header in asked.get("httpHeaders") or [])
    path_asked = str(asked.get("path") or "/")
    scheme: Literal["http", "https"] = "https" if asked.get("scheme") == "HTTPS" else "http"
    return AskHttp(port, scheme, path_asked if path_asked.startswith("/") else f"/{path_asked}", headers)


def _read_port(given: object, path: str) -> int:
    text = str(given)
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise UserError(f"{path} is {given!r}", hint="write the number of a port of the machine, from 1 to 65535")
    return int(text)
