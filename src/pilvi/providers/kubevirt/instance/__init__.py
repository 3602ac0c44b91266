"""VirtualMachineInstance: one run of a machine, from its Pod to its status."""
