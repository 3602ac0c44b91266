"""Kube-OVN's kinds: virtual private clouds, their subnets, and one IP object for each interface of a machine."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, ClassVar

from pilvi.api.core import LabelSelector
from pilvi.api.field import DateTime, Part, accepted, implemented, rejected, shape
from pilvi.api.networks import is_network
from pilvi.api.object import Column, Definition, Object, Rule
from pilvi.api.resource import Resource

__all__ = ["DEFAULT_VPC", "IP", "IPSpec", "Subnet", "SubnetSpec", "SubnetStatus", "Vpc", "VpcSpec", "VpcStatus"]

DEFAULT_VPC = "ovn-cluster"
"""The Vpc of whatever names none, under Kube-OVN's name for it."""


class VpcBfdPort(Part):
    enabled: bool = False
    ip: str | None = None
    node_selector: LabelSelector | None = None


class PolicyRoute(Part):
    action: str | None = None
    match: str | None = None
    next_hop_ip: str | None = None
    priority: int | None = None


class StaticRoute(Part):
    bfd_id: str | None = None
    cidr: Annotated[str | None, implemented("Where packets go, an IPv4 network.")] = None
    ecmp_mode: str | None = None
    next_hop_ip: Annotated[str | None, implemented("Machine in a Subnet of the Vpc that forwards them.")] = None
    policy: Annotated[str | None, implemented("policyDst; another one is a condition.")] = None
    route_table: str | None = None


class VpcPeering(Part):
    local_connect_ip: str | None = None
    remote_vpc: str | None = None


class VpcSpec(Part):
    bfd_port: VpcBfdPort | None = None
    default_subnet: Annotated[str | None, implemented("Subnet of machines in the Vpc's namespaces that name none.")] = None
    enable_bfd: bool | None = None
    enable_external: Annotated[
        bool | None,
        accepted("Whether the VPC reaches outside.", "every VPC reaches outside through source NAT", when="self == false"),
    ] = None
    extra_external_subnets: list[str] = []
    namespaces: Annotated[list[str], implemented("Namespaces whose machines may use the VPC; empty means all.")] = []
    policy_routes: Annotated[
        list[PolicyRoute],
        rejected(
            "Routes by source, and packets to drop.",
            "not implemented yet, and what they keep apart would meet",
            "staticRoutes, or a private Subnet with allowSubnets",
        ),
    ] = []
    static_routes: Annotated[list[StaticRoute], implemented("More routes of the router.")] = []
    vpc_peerings: list[VpcPeering] = []


class NetworkCondition(Part):
    last_transition_time: DateTime | None = None
    last_update_time: DateTime | None = None
    message: str | None = None
    observed_generation: int | None = None
    reason: str | None = None
    status: str | None = None
    type: str | None = None


class VpcBfdPortStatus(Part):
    ip: str | None = None
    name: str | None = None
    nodes: list[str] = []


class VpcStatus(Part):
    bfd_port: VpcBfdPortStatus | None = None
    conditions: list[NetworkCondition] = []
    default: bool | None = None
    default_logical_switch: Annotated[str | None, shape("Subnet of machines that name none.")] = None
    enable_bfd: bool | None = None
    enable_external: bool | None = None
    extra_external_subnets: list[str] = []
    router: Annotated[str | None, shape("Network namespace that is the router.")] = None
    sctp_load_balancer: str | None = None
    sctp_session_load_balancer: str | None = None
    standby: Annotated[bool | None, shape("The router is up.")] = None
    subnets: Annotated[list[str], shape("Subnets of this VPC.")] = []
    tcp_load_balancer: str | None = None
    tcp_session_load_balancer: str | None = None
    udp_load_balancer: str | None = None
    udp_session_load_balancer: str | None = None
    vpc_peerings: list[str] = []


class Vpc(Object):
    """A private network: one router, its subnets behind it; nothing joins two of them."""

    RESOURCE: ClassVar[Resource] = Resource("kubeovn.io", "v1", "vpcs", "Vpc", namespaced=False)
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("vpc",),
        columns=(
            Column("EnableExternal", ".status.enableExternal", "boolean"),
            Column("EnableBfd", ".status.enableBfd", "boolean"),
            Column("Standby", ".status.standby", "boolean"),
            Column("Subnets", ".status.subnets"),
            Column("ExtraExternalSubnets", ".status.extraExternalSubnets"),
            Column("Namespaces", ".spec.namespaces"),
            Column("DefaultSubnet", ".status.defaultLogicalSwitch"),
        ),
    )

    spec: VpcSpec | None = None
    status: VpcStatus | None = None


class SubnetAcl(Part):
    action: str | None = None
    direction: str | None = None
    match: str | None = None
    priority: int | None = None


class NatRuleMatch(Part):
    dst_ips: str | None = None
    src_ips: str | None = None


class NatRule(Part):
    action: str | None = None
    match: NatRuleMatch | None = None


class NatRuleStatus(Part):
    action: str | None = None
    match: NatRuleMatch | None = None
    rule_id: str | None = None


class U2oFeatures(Part):
    overlay_only_routing: bool | None = None


class SubnetSpec(Part):
    acls: Annotated[
        list[SubnetAcl],
        rejected("Filters.", "not implemented yet, and what they drop would pass", "private: true, with allowSubnets for who may come in"),
    ] = []
    allow_ew_traffic: bool | None = None
    allow_subnets: Annotated[list[str], implemented("Networks that a private subnet lets in.")] = []
    cidr_block: Annotated[str | None, implemented("Range of the subnet, one IPv4 network such as 10.0.1.0/24.")] = None
    default: Annotated[bool | None, implemented("Makes this the subnet of machines that name none.")] = None
    dhcp_v4_options: Annotated[
        str | None, implemented("What DHCP tells machines: router, dns_server, ntp_server, mtu, domain_name, lease_time, as name=value.")
    ] = None
    dhcp_v6_options: str | None = None
    disable_gateway_check: Annotated[bool | None, accepted("Skips the gateway check.", "the gateway is the router itself")] = None
    disable_inter_connection: bool | None = None
    enable_dhcp: Annotated[bool | None, accepted("Serves DHCP.", "virtual machines are always served, as by KubeVirt", when="!self")] = None
    enable_ecmp: bool | None = None
    enable_external_lb_address: bool | None = None
    enable_ipv6_ra: bool | None = None
    enable_lb: Annotated[bool | None, accepted("Load balancing inside the subnet.", when="self")] = None
    enable_multicast_snoop: bool | None = None
    exclude_ips: Annotated[list[str], implemented("Addresses never given out: single ones, or ranges as 10.0.1.10..10.0.1.20.")] = []
    external_egress_gateway: str | None = None
    gateway: Annotated[str | None, implemented("Address of the router in the subnet; default the first host address.")] = None
    gateway_node: str | None = None
    gateway_node_selectors: list[LabelSelector] = []
    gateway_type: Annotated[
        str | None,
        accepted("Where traffic leaves.", "the VPC's router is the only gateway", when="self != '' && self != 'distributed'"),
    ] = None
    ipv6_ra_configs: str | None = None
    logical_gateway: bool | None = None
    mtu: Annotated[int | None, implemented("Largest packet of the subnet in bytes; default 1500.", minimum=0)] = None
    namespace_selectors: list[LabelSelector] = []
    namespaces: Annotated[list[str], implemented("Namespaces whose machines may use the subnet; empty means all.")] = []
    nat_outgoing: Annotated[
        bool | None,
        accepted("Source NAT of what leaves.", "what leaves the VPC is always source-NATed", when="!self"),
    ] = None
    nat_outgoing_policy_rules: list[NatRule] = []
    node_network: str | None = None
    policy_routing_priority: int | None = None
    policy_routing_table_id: int | None = None
    private: Annotated[bool | None, implemented("Lets nothing in but the subnet itself and allowSubnets.")] = None
    protocol: Annotated[
        str | None,
        rejected(
            "Address family.",
            "only IPv4 is served",
            "protocol: IPv4, with an IPv4 cidrBlock",
            when="self != '' && self != 'IPv4'",
        ),
    ] = None
    provider: Annotated[
        str | None,
        rejected(
            "Network that the subnet is for: ovn (default) is the pod network.",
            "only networks of Kube-OVN have addresses here",
            "ovn, or <name>.<namespace>.ovn of a NetworkAttachmentDefinition",
            when="self != '' && self != 'ovn' && !self.matches('^[a-z0-9-]+[.][a-z0-9-]+[.]ovn$')",
        ),
    ] = None
    route_table: str | None = None
    u2o_features: U2oFeatures | None = None
    u2o_interconnection: bool | None = None
    u2o_interconnection_ip: str | None = None
    vips: list[str] = []
    vlan: Annotated[str | None, accepted("VLAN of an underlay.", when="self != ''")] = None
    vpc: Annotated[str | None, implemented("VPC that the subnet belongs to; default the cloud's default VPC.")] = None


class SubnetStatus(Part):
    activate_gateway: str | None = None
    conditions: list[NetworkCondition] = []
    dhcp_v4_options_uuid: str | None = None
    dhcp_v6_options_uuid: str | None = None
    mcast_querier_ip: str | None = None
    mcast_querier_mac: str | None = None
    nat_outgoing_policy_rules: list[NatRuleStatus] = []
    u2o_interconnection_ip: str | None = None
    u2o_interconnection_mac: str | None = None
    u2o_interconnection_vpc: str | None = None
    v4available_ip_range: Annotated[str | None, shape("Ranges of free addresses.")] = None
    v4available_ips: Annotated[float | None, shape("Free addresses.")] = None
    v4using_ip_range: Annotated[str | None, shape("Ranges of addresses in use.")] = None
    v4using_ips: Annotated[float | None, shape("Addresses in use.")] = None
    v6available_ip_range: str | None = None
    v6available_ips: float | None = None
    v6using_ip_range: str | None = None
    v6using_ips: float | None = None


class Subnet(Object):
    """A range of addresses in a VPC: one bridge, with the router and its resolver on it."""

    RESOURCE: ClassVar[Resource] = Resource("kubeovn.io", "v1", "subnets", "Subnet", namespaced=False)
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("subnet",),
        columns=(
            Column("Provider", ".spec.provider"),
            Column("Vpc", ".spec.vpc"),
            Column("Vlan", ".spec.vlan"),
            Column("Protocol", ".spec.protocol"),
            Column("CIDR", ".spec.cidrBlock"),
            Column("Private", ".spec.private", "boolean"),
            Column("NAT", ".spec.natOutgoing", "boolean"),
            Column("Default", ".spec.default", "boolean"),
            Column("GatewayType", ".spec.gatewayType"),
            Column("V4Used", ".status.v4usingIPs", "number"),
            Column("V4Available", ".status.v4availableIPs", "number"),
            Column("V6Used", ".status.v6usingIPs", "number"),
            Column("V6Available", ".status.v6availableIPs", "number"),
            Column("ExcludeIPs", ".spec.excludeIps"),
            Column("U2OInterconnectionIP", ".status.u2oInterconnectionIP"),
        ),
        rules=(
            Rule(
                is_network("object.?spec.?cidrBlock.orValue('')"),
                "'spec.cidrBlock must be one IPv4 network without host bits; write for example 10.0.1.0/24'",
            ),
            Rule(
                f"object.?spec.?allowSubnets.orValue([]).all(network, {is_network('network')})",
                "'spec.allowSubnets must be IPv4 networks without host bits such as 10.0.2.0/24, not '"
                f" + object.spec.allowSubnets.filter(network, !{is_network('network')}).join(', ')",
            ),
            Rule(
                "object.?spec.?gateway.orValue('') == '' || !isCIDR(object.?spec.?cidrBlock.orValue(''))"
                " || (isIP(object.spec.gateway) && cidr(object.spec.cidrBlock).containsIP(object.spec.gateway))",
                "'spec.gateway ' + object.spec.gateway + ' is not an address in spec.cidrBlock ' + object.spec.cidrBlock"
                " + '; write one that is, or leave it out for the first host address'",
            ),
            Rule(
                "oldObject == null || oldObject.?spec.?vpc.orValue('') == '' || oldObject.?spec.?vpc == object.?spec.?vpc",
                "'spec.vpc cannot change: machines hold addresses there; make a new Subnet with another name in the other VPC'",
            ),
        ),
    )

    spec: SubnetSpec | None = None
    status: SubnetStatus | None = None


class IPSpec(Part):
    attach_ips: list[str] = []
    attach_macs: list[str] = []
    attach_subnets: list[str] = []
    container_id: str = ""
    ip_address: Annotated[str, implemented("Address of the machine.")] = ""
    mac_address: Annotated[str, implemented("MAC of the machine's interface there.")] = ""
    namespace: Annotated[str, implemented("Namespace of the machine.")] = ""
    node_name: Annotated[str, implemented("Virtual host the machine runs on.")] = ""
    pod_name: Annotated[str, implemented("Name of the machine.")] = ""
    pod_type: Annotated[str, implemented("Kind of the machine: VirtualMachine.")] = ""
    subnet: Annotated[str, implemented("Subnet the address is from.")] = ""
    v4_ip_address: Annotated[str, implemented("The IPv4 address.")] = ""
    v6_ip_address: Annotated[str, accepted("The IPv6 address.", when="self != ''")] = ""


class IP(Object):
    """The address and MAC of a machine in one of its networks. Written by pilvi."""

    RESOURCE: ClassVar[Resource] = Resource("kubeovn.io", "v1", "ips", "IP", namespaced=False)
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("ip",),
        columns=(
            Column("V4IP", ".spec.v4IpAddress"),
            Column("V6IP", ".spec.v6IpAddress"),
            Column("Mac", ".spec.macAddress"),
            Column("Node", ".spec.nodeName"),
            Column("Subnet", ".spec.subnet"),
        ),
        status=False,
    )

    spec: IPSpec | None = None
