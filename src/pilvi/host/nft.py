"""nftables, a table at a time: one transaction replaces exactly the named tables and touches no other.

Tables are plain JSON values (libnftables-json(5)), made by pure functions. `table` puts one together; the other helpers spell the
statements that are needed often.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pilvi.errors import Bug
from pilvi.host.netns import has_netns, netns_path
from pilvi.lib.run import run

__all__ = [
    "ACCEPT",
    "DROP",
    "ICMP",
    "KNOWN",
    "JsonObject",
    "Tables",
    "apply",
    "chain",
    "delete",
    "list_tables",
    "match",
    "render",
    "rule",
    "table",
]

JsonObject: TypeAlias = dict[str, Any]
Family: TypeAlias = Literal["ip", "ip6", "inet", "bridge", "netdev"]

# Writing costs 20 to 80 ms, so equal tables are written again only now and then, against what hands may have changed.
HOLD_S = 300.0
_TIMEOUT_S = 30.0
_ORDER = ("set", "map", "chain", "element", "rule")


def table(name: str, content: Sequence[JsonObject] = (), *, family: Family = "inet") -> JsonObject:
    """A table. Each of `content` is `{"chain": {...}}`, `{"set": ...}`, `{"map": ...}`, `{"element": ...}` or `{"rule": {...}}`.

    Family and table name are filled in. Rules keep their order; the rest is put before them.
    """
    return {"family": family, "name": name, "content": list(content)}


def chain(
    name: str, *, type: Literal["filter", "nat", "route"] = "filter", hook: str | None = None, priority: int = 0, policy: str = "accept"
) -> JsonObject:
    """A chain; with `hook` (`prerouting`, `input`, `forward`, `output`, `postrouting`) the kernel runs it, else a jump does."""
    if hook is None:
        return {"chain": {"name": name}}
    return {"chain": {"name": name, "type": type, "hook": hook, "prio": priority, "policy": policy}}


def rule(chain: str, *statements: JsonObject, comment: str | None = None) -> JsonObject:
    """A rule at the end of a chain."""
    return {"rule": {"chain": chain, "expr": list(statements), **({"comment": comment} if comment else {})}}


def match(left: Any, right: Any, op: str = "==") -> JsonObject:
    """A match. `left` as text: `ip saddr` is that field of the header, one word such as `oifname` is about the packet."""
    if isinstance(left, str):
        protocol, _, field = left.partition(" ")
        left = {"payload": {"protocol": protocol, "field": field}} if field else {"meta": {"key": left}}
    return {"match": {"op": op, "left": left, "right": right}}


ACCEPT: JsonObject = {"accept": None}
DROP: JsonObject = {"drop": None}
KNOWN = match({"ct": {"key": "state"}}, ["established", "related"], "in")
"""Matches answers, and errors about them."""
ICMP = match("l4proto", {"set": ["icmp", "ipv6-icmp"]})


def render(tables: Sequence[JsonObject]) -> str:
    """The transaction that replaces these tables, as input for `nft -j -f -`. Pure."""
    commands: list[JsonObject] = []
    for value in tables:
        place = {"family": value["family"], "name": value["name"]}
        # Adding a table that is there does nothing, so that the deletion after it never fails.
        commands += [{"add": {"table": place}}, {"delete": {"table": place}}, {"add": {"table": place}}]
        for item in sorted(value["content"], key=_rank):
            ((kind, body),) = item.items()
            commands.append({"add": {kind: {"family": value["family"], "table": value["name"], **body}}})
    return json.dumps({"nftables": commands})


async def apply(netns: str | None, tables: Sequence[JsonObject]) -> None:
    """Make these tables be exactly as given, all or none. Established connections and other tables are not touched.

    Raises DriverError with nft's words when it refuses; then nothing has changed. Raises FileNotFoundError without such a namespace.
    """
    if tables:
        await _nft(netns, "-j", "-f", "-", input=render(tables))


class Tables:
    """What this process has written where, so that equal tables are not written at every run."""

    def __init__(self) -> None:
        self._written: dict[str | None, tuple[list[JsonObject], float]] = {}

    async def ensure(self, netns: str | None, *tables: JsonObject) -> None:
        """Like `apply`, unless it has done the same in the last `HOLD_S` seconds. `tables` are all that the caller has in `netns`."""
        before, at = self._written.get(netns, (None, 0.0))
        if list(tables) != before or time.monotonic() - at > HOLD_S:
            await apply(netns, tables)
            self._written[netns] = (list(tables), time.monotonic())

    def forget(self, netns: str | None) -> None:
        """To be called when a namespace of that name is gone or was made anew."""
        self._written.pop(netns, None)


async def delete(netns: str | None, name: str, *, family: Family = "inet") -> None:
    """Delete one table; a table or namespace that is not there is fine."""
    if netns is not None and not has_netns(netns):
        return
    place = {"family": family, "name": name}
    await _nft(netns, "-j", "-f", "-", input=json.dumps({"nftables": [{"add": {"table": place}}, {"delete": {"table": place}}]}))


async def list_tables(netns: str | None) -> list[tuple[str, str]]:
    """Family and name of every table."""
    answer = json.loads(await _nft(netns, "-j", "list", "tables"))
    return [(entry["table"]["family"], entry["table"]["name"]) for entry in answer["nftables"] if "table" in entry]


async def _nft(netns: str | None, *words: str, input: str | None = None) -> str:
    argv: list[str | Path] = ["nft", *words]
    if netns is not None:
        if not has_netns(netns):
            raise FileNotFoundError(2, "no such network namespace", netns)
        argv = ["nsenter", f"--net={netns_path(netns)}", *argv]
    return (await run(argv, timeout_s=_TIMEOUT_S, input=input)).stdout


def _rank(item: JsonObject) -> int:
    if len(item) != 1 or (kind := next(iter(item))) not in _ORDER:
        raise Bug(f"{item!r} is not one of {', '.join(_ORDER)}")
    return _ORDER.index(kind)
