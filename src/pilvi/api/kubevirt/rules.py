"""Refusals that a machine's own object decides: sizes that are none, disks without a volume. Shared by all kinds with a machine."""

from pilvi.api.kubevirt.interfaces import interface_rules, interface_variables
from pilvi.api.object import Column, Rule

__all__ = ["MACHINE_COLUMNS", "RUN_STRATEGIES", "machine_rules", "machine_variables", "memory_rule", "name_rule"]

RUN_STRATEGIES = ["Always", "RerunOnFailure", "Once", "Manual", "Halted"]

MACHINE_COLUMNS = (Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),)


def machine_variables(instance_spec: str) -> dict[str, str]:
    """CEL variables that `machine_rules` needs; `instance_spec` is the CEL expression of the VirtualMachineInstance's spec."""
    return {
        "machine": instance_spec,
        "domain": "variables.machine.?domain.orValue({})",
        "sizes": (
            "[variables.domain.?memory.?guest, variables.domain.?resources.?requests.?memory, variables.domain.?resources.?requests.?cpu,"
            " variables.domain.?resources.?limits.?memory, variables.domain.?resources.?limits.?cpu]"
            ".filter(size, size.hasValue()).map(size, string(size.value()))"
        ),
        "volumes": "variables.machine.?volumes.orValue([]).map(volume, volume.name)",
        **interface_variables(),
    }


def machine_rules(path: str) -> tuple[Rule, ...]:
    """Rules over these variables; `path` is the field path of the instance's spec, for messages."""
    return (
        Rule(
            "[variables.domain.?cpu.?cores, variables.domain.?cpu.?sockets, variables.domain.?cpu.?threads].all(n, n.orValue(1) >= 1)",
            f"'{path}.domain.cpu: cores, sockets and threads must be 1 or more; write a positive number or leave them out'",
        ),
        Rule(
            "variables.domain.?cpu.?maxSockets.orValue(0) == 0"
            " || variables.domain.?cpu.?sockets.orValue(1) <= variables.domain.?cpu.?maxSockets.orValue(0)",
            f"'{path}.domain.cpu: sockets is more than maxSockets; write a larger maxSockets, or leave it out'",
        ),
        Rule(
            "!variables.domain.?memory.?guest.hasValue() || !variables.domain.?memory.?maxGuest.hasValue()"
            " || (isQuantity(string(variables.domain.memory.maxGuest)) && isQuantity(string(variables.domain.memory.guest))"
            " && quantity(string(variables.domain.memory.guest)).compareTo(quantity(string(variables.domain.memory.maxGuest))) <= 0)",
            f"'{path}.domain.memory: maxGuest must be a quantity that is not less than guest; write a larger one, or leave it out'",
        ),
        Rule(
            "variables.sizes.all(size, isQuantity(size) && quantity(size).isGreaterThan(quantity('0')))",
            f"'{path}.domain: memory.guest and the cpu and memory of resources must be positive quantities such as 2Gi or 500m, not '"
            " + variables.sizes.filter(size, !isQuantity(size) || !quantity(size).isGreaterThan(quantity('0'))).join(', ')",
        ),
        Rule(
            "variables.domain.?devices.?disks.orValue([]).all(disk, disk.name in variables.volumes)",
            f"'{path}.domain.devices.disks: no volume is called '"
            " + variables.domain.?devices.?disks.orValue([]).map(disk, disk.name).filter(name, !(name in variables.volumes)).join(', ')"
            f" + '; add it to {path}.volumes or take the disk away'",
        ),
        Rule(
            "variables.machine.?volumes.orValue([]).filter(volume, volume.?memoryDump.hasValue()).size() <= 1",
            f"'{path}.volumes: a machine writes its memory to one claim at a time; keep one memoryDump'",
        ),
        *interface_rules(path),
        Rule(
            "!variables.domain.?firmware.?kernelBoot.hasValue()"
            " || variables.domain.?firmware.?kernelBoot.?container.?kernelPath.orValue('') != ''",
            f"'{path}.domain.firmware.kernelBoot names no kernel; write container.image and container.kernelPath, such as /boot/vmlinuz'",
        ),
        Rule(
            "variables.machine.?terminationGracePeriodSeconds.orValue(0) >= 0",
            f"'{path}.terminationGracePeriodSeconds must not be negative'",
        ),
    )


def memory_rule(path: str, *, unless: str = "") -> Rule:
    """A machine that is to run says how much memory it has; a template may still be completed, and so is one where `unless` (CEL) holds."""
    return Rule(
        (f"{unless} || " if unless else "")
        + "variables.domain.?memory.?guest.hasValue() || variables.domain.?memory.?hugepages.?pageSize.hasValue()"
        " || variables.domain.?resources.?requests.?memory.hasValue() || variables.domain.?resources.?limits.?memory.hasValue()",
        f"'{path}.domain: the memory of the machine is not given; write memory.guest, for example 2Gi'",
    )


def name_rule(kind: str, used_as: str) -> Rule:
    """The object's name must fit where it is used: a DNS label."""
    return Rule(
        "size(object.metadata.name) <= 63 && !object.metadata.name.contains('.')",
        f"'metadata.name of a {kind} becomes {used_as}: at most 63 characters without dots; it has '"
        " + string(size(object.metadata.name)) + ': write a shorter name'",
    )
