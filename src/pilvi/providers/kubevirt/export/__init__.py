"""VirtualMachineExports: disks to be downloaded, and manifests that make the machine elsewhere.

controller.py   the order of things
contents.py     what an export holds now, or why it holds nothing
plan.py         names and objects that are made for it; status.py what it says, manifests.py what the links of that name lead to. All pure
delivery.py     answers who downloads

Who may create VirtualMachineExports in a namespace, and knows a token in it, may read its disks; who downloads needs the token only.
A machine goes first, as with KubeVirt: one that starts ends the downloads of its disks, and the export is ready again when it has ended.
"""
