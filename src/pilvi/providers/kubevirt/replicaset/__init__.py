"""VirtualMachineInstanceReplicaSet: a number of instances that are all alike."""
