"""Refusals that a machine's own object decides: sizes that are none, disks without a volume. Shared by all kinds with a machine."""

from pilvi.api.kubevirt.disks import disk_rules, disk_variables
from pilvi.api.kubevirt.interfaces import interface_rules, interface_variables
from pilvi.api.object import Column, Rule

__all__ = ["MACHINE_COLUMNS", "RUN_STRATEGIES", "machine_rules", "machine_variables", "memory_rule", "name_rule"]

RUN_STRATEGIES = ["Always", "RerunOnFailure", "Once", "Manual", "Halted"]

IO_THREADS = ["", "shared", "auto", "supplementalPool"]
PROBES = ("exec", "guestAgentPing", "tcpSocket", "httpGet")

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
        **disk_variables(),
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
        *disk_rules(path),
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
        *(
            Rule(
                f"{_not_more(f'variables.domain.?resources.?requests.?{kind}', f'variables.domain.?resources.?limits.?{kind}')}",
                f"'{path}.domain.resources: requests.{kind} is more than limits.{kind}; write a larger limit, or leave it out'",
            )
            for kind in ("cpu", "memory")
        ),
        Rule(
            _not_more("variables.domain.?memory.?guest", "variables.domain.?resources.?limits.?memory"),
            f"'{path}.domain: memory.guest is more than resources.limits.memory; write a larger limit, or leave it out'",
        ),
        Rule(
            f"variables.domain.?ioThreadsPolicy.orValue('') in {IO_THREADS}",
            f"'{path}.domain.ioThreadsPolicy is shared, auto or supplementalPool'",
        ),
        Rule(
            "variables.machine.?hostname.orValue('').matches('^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$')",
            f"'{path}.hostname is a name of up to 63 small letters, digits and - between them, without dots'",
        ),
        Rule(
            "variables.domain.?firmware.?uuid.orValue('').matches('^([0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})?$')",
            f"'{path}.domain.firmware.uuid is no UUID; write one as uuidgen makes them, or leave it out'",
        ),
        Rule("variables.machine.?startStrategy.orValue('') in ['', 'Paused']", f"'{path}.startStrategy is Paused, or is left out'"),
        *(
            Rule(
                f"!variables.machine.?{probe}.hasValue() || [{', '.join(f'variables.machine.{probe}.?{way}' for way in PROBES)}]"
                ".filter(way, way.hasValue()).size() == 1",
                f"'{path}.{probe} asks in one way: {', '.join(PROBES)}'",
            )
            for probe in ("readinessProbe", "livenessProbe")
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


def _not_more(part: str, whole: str) -> str:
    """CEL: of two optional quantities the first is not more than the second. What is no quantity is refused elsewhere."""
    return (
        f"!{part}.hasValue() || !{whole}.hasValue() || !isQuantity(string({part}.value())) || !isQuantity(string({whole}.value()))"
        f" || quantity(string({part}.value())).compareTo(quantity(string({whole}.value()))) <= 0"
    )
