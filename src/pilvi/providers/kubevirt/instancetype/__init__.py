"""Instancetypes and preferences: what a VirtualMachine names instead of writing it.

matcher.py        what a machine names, and what its status says of it
infer.py          names found in labels of a volume
revision.py       the copy that a machine keeps, so that a later edit does not change it
choice.py         from names to the specifications that hold for a machine; stores the copies
size.py           an instancetype put into a machine's template, and what conflicts
preference.py     a preference put into what is left open
topology.py       vCPUs as sockets, cores and threads
requirements.py   what a preference asks of a machine
expand.py         all of it on one template
checks.py         what is said at admission
wakeups.py        which machines a change concerns
"""
