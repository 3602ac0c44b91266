"""KubevirtMachine: from a Cluster API Machine to a virtual machine and back."""
