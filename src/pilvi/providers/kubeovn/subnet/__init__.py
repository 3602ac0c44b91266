"""Subnet: an address range in a Vpc, with a bridge and a gateway in the router, from which machines get their addresses."""
