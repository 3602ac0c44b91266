"""IPv4 networks in the rules of the kinds, in CEL. Pure."""

__all__ = ["is_network"]


def is_network(text: str) -> str:
    """The CEL condition that the expression `text` is an IPv4 network.

    An address in a network, such as 10.0.0.5/24, is none: whoever wrote it meant either the host or the network, and code reads it
    as one of both.
    """
    return f"(isCIDR({text}) && cidr({text}).ip().family() == 4 && cidr({text}) == cidr({text}).masked())"
