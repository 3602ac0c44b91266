"""VirtualMachineSnapshots: a machine's specification and its volumes as they are at one moment.

controller.py   the order of things
plan.py         what the objects are that hold a snapshot; status.py what a snapshot says. Both pure
volumes.py      which volumes of a machine can be copied
quiesce.py      has the guest hold still while they are
revisions.py    keeps its instance type
content.py      lets a content go with its snapshot
marks.py        what a machine's own status says of snapshots and restores

`../restore/` is the way back, `../clone/` both in one.
"""
