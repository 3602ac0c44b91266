"""VirtualMachine: what should run, by its run strategy."""
