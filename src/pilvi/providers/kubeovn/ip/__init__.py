"""IP: the address and the MAC of one machine, allocated once and kept for the life of its VirtualMachine."""
