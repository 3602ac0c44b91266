import subprocess

import pytest

from pilvi.errors import DriverError
from pilvi.host import nft
from pilvi.host.cloud import Cloud
from pilvi.host.netns import ensure_netns


def masquerade(link: str) -> nft.JsonObject:
    return nft.table(
        "pilvi",
        [
            nft.chain("out", type="nat", hook="postrouting", priority=100),
            {"set": {"name": "own", "type": "ipv4_addr", "flags": ["interval"], "elem": [{"prefix": {"addr": "10.0.0.0", "len": 8}}]}},
            nft.rule("out", nft.match("oifname", link), nft.match("ip saddr", "@own"), {"masquerade": None}, comment=f"out by {link}"),
        ],
    )


def ruleset(netns: str) -> str:
    return subprocess.run(
        ["nsenter", f"--net=/run/netns/{netns}", "nft", "list", "ruleset"], capture_output=True, text=True, check=True
    ).stdout


async def test_a_table_is_replaced_and_others_are_not_touched(cloud: Cloud) -> None:
    netns = cloud.netns("a")
    await ensure_netns(netns)
    foreign = "table inet foreign { chain c { tcp dport 22 counter accept; }; }"
    subprocess.run(["nsenter", f"--net=/run/netns/{netns}", "nft", "-f", "-"], input=foreign, text=True, check=True)
    before = ruleset(netns)
    await nft.apply(netns, [masquerade("eth0")])
    once = ruleset(netns)
    await nft.apply(netns, [masquerade("eth0")])
    assert ruleset(netns) == once
    assert before in once
    await nft.apply(netns, [masquerade("eth1"), nft.table("second")])
    assert 'oifname "eth1"' in ruleset(netns)
    assert "eth0" not in ruleset(netns)
    assert sorted(await nft.list_tables(netns)) == [("inet", "foreign"), ("inet", "pilvi"), ("inet", "second")]
    for name in ("pilvi", "second", "second"):
        await nft.delete(netns, name)
    assert ruleset(netns) == before


async def test_a_refused_transaction_changes_nothing(cloud: Cloud) -> None:
    netns = cloud.netns("a")
    await ensure_netns(netns)
    await nft.apply(netns, [masquerade("eth0")])
    before = ruleset(netns)
    with pytest.raises(DriverError):
        await nft.apply(netns, [nft.table("pilvi"), nft.table("x", [nft.rule("none", {"drop": None})])])
    assert ruleset(netns) == before


async def test_namespaces_are_apart(cloud: Cloud) -> None:
    for suffix in "ab":
        await ensure_netns(cloud.netns(suffix))
    await nft.apply(cloud.netns("a"), [masquerade("eth0")])
    assert await nft.list_tables(cloud.netns("b")) == []
    await nft.delete(cloud.netns("none"), "pilvi")
    with pytest.raises(FileNotFoundError):
        await nft.apply(cloud.netns("none"), [masquerade("eth0")])


async def test_in_the_hosts_namespace(cloud: Cloud) -> None:
    await nft.apply(None, [nft.table(cloud.nft_table)])
    assert ("inet", cloud.nft_table) in await nft.list_tables(None)
    await nft.delete(None, cloud.nft_table)
    assert ("inet", cloud.nft_table) not in await nft.list_tables(None)
