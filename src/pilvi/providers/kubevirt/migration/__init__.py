"""Moving machines between virtual hosts.

controller.py   a VirtualMachineInstanceMigration, phase by phase
target.py       the Pod that the machine moves to
state.py        what the instance's status says of a move
policy.py       how fast, how long: MigrationPolicies
obstacle.py     why a machine cannot move
evacuation.py   evictions: what `kubectl drain` is answered, and the moves that follow from it
"""
