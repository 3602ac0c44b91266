import json
from collections.abc import Sequence

import pytest

from pilvi.errors import Bug, DriverError
from pilvi.host import nft


def commands(*tables: nft.JsonObject) -> list[nft.JsonObject]:
    result: list[nft.JsonObject] = json.loads(nft.render(tables))["nftables"]
    return result


def test_a_table_is_replaced_as_a_whole() -> None:
    place = {"table": {"family": "inet", "name": "pilvi-x"}}
    assert commands(nft.table("pilvi-x")) == [{"add": place}, {"delete": place}, {"add": place}]


def test_rules_come_last_and_keep_their_order() -> None:
    table = nft.table(
        "t",
        [
            nft.rule("out", nft.match("oifname", "uplink"), {"masquerade": None}, comment="first"),
            {"set": {"name": "s", "type": "ipv4_addr"}},
            nft.rule("out", nft.match("ip saddr", "10.0.0.1"), {"drop": None}, comment="second"),
            nft.chain("out", type="nat", hook="postrouting", priority=100),
        ],
        family="ip",
    )
    added = [next(iter(command["add"].items())) for command in commands(table)[3:]]
    assert [kind for kind, _ in added] == ["set", "chain", "rule", "rule"]
    assert [body["comment"] for kind, body in added if kind == "rule"] == ["first", "second"]
    assert all(body["family"] == "ip" and body["table"] == "t" for _, body in added)


def test_two_tables_are_one_transaction() -> None:
    names = [command["delete"]["table"]["name"] for command in commands(nft.table("a"), nft.table("b")) if "delete" in command]
    assert names == ["a", "b"]


def test_matches() -> None:
    assert nft.match("oifname", "eth0") == {"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "eth0"}}
    assert nft.match("tcp dport", 53, "!=") == {
        "match": {"op": "!=", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 53}
    }
    assert nft.match({"ct": {"key": "state"}}, "new")["match"]["left"] == {"ct": {"key": "state"}}


def test_a_chain_without_hook_is_jumped_to() -> None:
    assert nft.chain("mine") == {"chain": {"name": "mine"}}


async def test_equal_tables_are_written_again_only_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    async def apply(netns: str | None, tables: Sequence[nft.JsonObject]) -> None:
        written.append(f"{netns} {[table['name'] for table in tables]}")
        if tables[0]["name"] == "refused":
            raise DriverError(("nft",), 1, "", "refused")

    monkeypatch.setattr(nft, "apply", apply)
    tables = nft.Tables()
    for _ in range(2):
        await tables.ensure("a", nft.table("one"))
        await tables.ensure(None, nft.table("one"))
    assert written == ["a ['one']", "None ['one']"]
    await tables.ensure("a", nft.table("two"))
    await tables.ensure("a", nft.table("one"))
    assert written[2:] == ["a ['two']", "a ['one']"]
    tables.forget("a")
    tables.forget("never seen")
    await tables.ensure("a", nft.table("one"))
    # What was refused is not written, so it is tried again.
    for _ in range(2):
        with pytest.raises(DriverError):
            await tables.ensure("a", nft.table("refused"))
    assert len(written) == 7
    monkeypatch.setattr(nft, "HOLD_S", 0.0)
    await tables.ensure(None, nft.table("one"))
    assert len(written) == 8


@pytest.mark.parametrize("item", [{"table": {}}, {}, {"rule": {}, "chain": {}}])
def test_what_is_no_part_of_a_table_is_refused(item: nft.JsonObject) -> None:
    with pytest.raises(Bug):
        nft.render([nft.table("t", [item])])
