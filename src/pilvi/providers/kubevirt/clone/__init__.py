"""VirtualMachineClones: a snapshot of the source and a restore to another name, with an identity of its own.

controller.py   the order of things
plan.py         what makes the clone another machine. Pure
"""
