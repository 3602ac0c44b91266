"""Refusals about the interfaces and networks of a machine. KubeVirt's own (pkg/network/admitter), and what cards have no room for here."""

from pilvi.api.object import Rule

__all__ = ["TEXT", "interface_rules", "interface_variables"]

TEXT = r"^[ !#-\[\]-~]{1,200}$"
"""What DHCP may tell as text: no quote, no backslash, nothing beyond ASCII."""
_MOST = 4
_NAME = "^[A-Za-z0-9_-]+$"
_ADDRESS = "^([0-9]{1,3}[.]){3}[0-9]{1,3}$"
_DEFINITION = "^([a-z0-9-]+/)?[a-z0-9-]+$"


def interface_variables() -> dict[str, str]:
    """CEL variables that `interface_rules` needs, over those of `machine_variables`."""
    return {
        "interfaces": "variables.domain.?devices.?interfaces.orValue([])",
        "networks": "variables.machine.?networks.orValue([])",
        "podNetworks": "variables.networks.filter(n, n.?pod.hasValue()).map(n, n.name)",
        "defaultNetworks": "variables.networks.filter(n, n.?pod.hasValue() || n.?multus.?default.orValue(false)).map(n, n.name)",
        "definitions": (
            "variables.networks.filter(n, n.?multus.hasValue()).map(n, n.multus.networkName.contains('/')"
            " ? n.multus.networkName : string(request.?namespace.orValue('')) + '/' + n.multus.networkName)"
        ),
    }


def interface_rules(path: str) -> tuple[Rule, ...]:
    """Rules over these variables; `path` is the field path of the instance's spec, for messages."""
    interfaces = f"{path}.domain.devices.interfaces"
    return (
        Rule(
            f"size(variables.interfaces) <= {_MOST}",
            f"'{interfaces}: a machine has room for {_MOST} network cards, not for ' + string(size(variables.interfaces))",
        ),
        Rule(
            f"variables.interfaces.all(i, i.name.matches('{_NAME}'))",
            f"'{interfaces}: names are made of letters, digits, - and _, not '"
            f" + variables.interfaces.filter(i, !i.name.matches('{_NAME}')).map(i, i.name).join(', ')",
        ),
        Rule(
            "variables.interfaces.all(i, variables.interfaces.exists_one(j, j.name == i.name))"
            " && variables.networks.all(n, variables.networks.exists_one(m, m.name == n.name))",
            f"'{path}: two interfaces or two networks have the same name; give each its own'",
        ),
        Rule(
            "variables.interfaces.all(i, variables.networks.exists(n, n.name == i.name))",
            f"'{interfaces}: there is no network called '"
            " + variables.interfaces.filter(i, !variables.networks.exists(n, n.name == i.name)).map(i, i.name).join(', ')"
            f" + '; add it to {path}.networks, with pod: {{}} or multus'",
        ),
        Rule(
            "variables.networks.all(n, variables.interfaces.exists(i, i.name == n.name))",
            f"'{path}.networks: no interface is called '"
            " + variables.networks.filter(n, !variables.interfaces.exists(i, i.name == n.name)).map(n, n.name).join(', ')"
            f" + '; add it to {interfaces}'",
        ),
        Rule(
            "variables.networks.all(n, n.?pod.hasValue() != n.?multus.hasValue())",
            f"'{path}.networks: each has exactly one of pod and multus; look at '"
            " + variables.networks.filter(n, n.?pod.hasValue() == n.?multus.hasValue()).map(n, n.name).join(', ')",
        ),
        Rule(
            "size(variables.defaultNetworks) <= 1",
            f"'{path}.networks: the pod network and a multus network with default: true are the first network of a machine, which has"
            " only one, not ' + variables.defaultNetworks.join(', ')",
        ),
        Rule(
            f"variables.networks.all(n, !n.?multus.hasValue() || n.multus.networkName.matches('{_DEFINITION}'))",
            f"'{path}.networks: multus.networkName is the name of a NetworkAttachmentDefinition, or <namespace>/<name>, not '"
            f" + variables.networks.filter(n, n.?multus.hasValue() && !n.multus.networkName.matches('{_DEFINITION}'))"
            ".map(n, n.multus.networkName).join(', ')",
        ),
        Rule(
            "variables.definitions.all(d, variables.definitions.exists_one(e, e == d))",
            f"'{path}.networks: a machine is in each NetworkAttachmentDefinition once; take one of those that name the same away'",
        ),
        Rule(
            "variables.interfaces.all(i, !i.?masquerade.hasValue() || i.name in variables.podNetworks)",
            f"'{interfaces}: masquerade is for the pod network alone; write bridge: {{}}'",
        ),
        Rule(
            "variables.interfaces.all(i, [i.?bridge, i.?masquerade, i.?macvtap, i.?passt, i.?passtBinding, i.?slirp, i.?binding]"
            ".filter(way, way.hasValue()).size() <= 1)",
            f"'{interfaces}: each is attached in one way; write bridge or masquerade, not both'",
        ),
        Rule(
            "variables.interfaces.all(i, i.?state.orValue('') in ['', 'up', 'down', 'absent'])",
            f"'{interfaces}: state is up, down or absent'",
        ),
        Rule(
            "variables.interfaces.all(i, i.?state.orValue('') != 'absent' || !(i.name in variables.defaultNetworks))",
            f"'{interfaces}: the machine\\'s first interface cannot be absent; write state: down'",
        ),
        Rule(
            "variables.interfaces.all(i, i.?ports.orValue([])"
            ".all(p, p.port >= 1 && p.port <= 65535 && p.?protocol.orValue('TCP') in ['TCP', 'UDP'])"
            " && i.?portRanges.orValue([]).all(p, p.start >= 1 && p.start <= p.end && p.end <= 65535 && p.protocol in ['TCP', 'UDP']))",
            f"'{interfaces}: ports are numbers from 1 to 65535, of protocol TCP or UDP'",
        ),
        Rule(
            "variables.interfaces.all(i, i.?acpiIndex.orValue(1) >= 1 && i.?acpiIndex.orValue(1) <= 16383)",
            f"'{interfaces}: acpiIndex is a number from 1 to 16383'",
        ),
        Rule(
            "variables.interfaces.all(i, ["
            "i.?dhcpOptions.?bootFileName.orValue(''), i.?dhcpOptions.?tftpServerName.orValue('')"
            f"].all(text, text == '' || text.matches(r'{TEXT}')))",
            f"'{interfaces}: what dhcpOptions tells is ASCII text without quotes and backslashes, 200 characters at most'",
        ),
        Rule(
            f"variables.interfaces.all(i, i.?dhcpOptions.?ntpServers.orValue([]).all(a, a.matches('{_ADDRESS}')))",
            f"'{interfaces}: dhcpOptions.ntpServers are IPv4 addresses'",
        ),
        Rule(
            "variables.interfaces.all(i, i.?dhcpOptions.?privateOptions.orValue([])"
            f".all(o, o.option >= 224 && o.option <= 254 && o.value.matches(r'{TEXT}')))",
            f"'{interfaces}: dhcpOptions.privateOptions have numbers from 224 to 254, and values of ASCII text without quotes and"
            " backslashes, 200 characters at most'",
        ),
    )
