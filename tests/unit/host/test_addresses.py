from ipaddress import IPv4Network

from pilvi.host.addresses import list_used_networks, parse_local_addresses, parse_routes

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
tun0\t00000080\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
pvabcde\t0000FA0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""

TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
        |-- 192.0.2.2
           /32 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
"""


def test_routes_but_the_widest() -> None:
    assert parse_routes(ROUTES) == [("eth0", IPv4Network("192.0.2.0/24")), ("pvabcde", IPv4Network("10.250.0.0/24"))]


def test_local_addresses() -> None:
    assert parse_local_addresses(TRIE) == [IPv4Network("192.0.2.2/32")]


def test_this_host_can_be_read() -> None:
    assert all(isinstance(network, IPv4Network) for network in list_used_networks().values())
