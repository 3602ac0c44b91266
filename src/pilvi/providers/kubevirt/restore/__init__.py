"""VirtualMachineRestores: a machine and its volumes as a snapshot holds them.

controller.py   the order of things
volumes.py      the new claims
plan.py         what claims and machine shall be; status.py what a restore says. Both pure
"""
