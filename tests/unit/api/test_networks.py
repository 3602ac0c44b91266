"""Networks in rules: every rule that wants one asks in the same words."""

import re

from pilvi.api.crds import all_policies
from pilvi.api.networks import is_network

RULES = [
    (policy["metadata"]["name"], rule["expression"])
    for policy in all_policies(["v1.37.2"])
    for rule in policy["spec"].get("validations", ())
]


def test_host_bits_are_refused() -> None:
    condition = is_network("range")
    assert "isCIDR(range)" in condition
    assert "cidr(range) == cidr(range).masked()" in condition


def test_the_kinds_with_networks_ask_for_networks() -> None:
    asking = {name for name, expression in RULES if re.search(r"cidr\((.+?)\) == cidr\(\1\)\.masked\(\)", expression)}
    assert asking == {"pilvi-refused-subnets", "pilvi-refused-tenantcontrolplanes", "pilvi-refused-clusters"}


def test_no_rule_asks_for_an_address_family_alone() -> None:
    """What is asked for its family must be a network as well, or code behind it would meet host bits."""
    for name, expression in RULES:
        assert expression.count(".family() == 4") == expression.count(".family() == 4 && cidr("), name
