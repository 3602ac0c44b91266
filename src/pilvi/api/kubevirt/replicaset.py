"""VirtualMachineInstanceReplicaSet: a number of instances that are all alike."""

# A struct is described at the field that holds it.

from typing import Annotated, ClassVar

from pilvi.api.core import LabelSelector
from pilvi.api.field import Part, implemented, shape
from pilvi.api.kubevirt.instance import VirtualMachineInstanceTemplate
from pilvi.api.kubevirt.instance_status import MachineCondition
from pilvi.api.kubevirt.rules import machine_rules, machine_variables, memory_rule
from pilvi.api.object import Column, Definition, Object, Rule, Scale
from pilvi.api.resource import Resource

__all__ = ["VirtualMachineInstanceReplicaSet"]


class ReplicaSetSpec(Part):
    selector: Annotated[LabelSelector, implemented("Labels of the instances that belong to the set; the template has to have them.")]
    template: Annotated[VirtualMachineInstanceTemplate, implemented("What each instance is made from.")]
    paused: Annotated[bool | None, implemented("Instances are neither made nor deleted.")] = None
    replicas: Annotated[int | None, implemented("Instances wanted; default 1.")] = None


class ReplicaSetStatus(Part):
    conditions: Annotated[list[MachineCondition], shape("ReplicaFailure, ReplicaPaused.")] = []
    label_selector: Annotated[str | None, shape("The selector as text, for autoscalers.")] = None
    ready_replicas: Annotated[int | None, shape("Instances that are ready.")] = None
    replicas: Annotated[int | None, shape("Instances that are neither ended nor being deleted.")] = None


class VirtualMachineInstanceReplicaSet(Object):
    """A number of instances that are all alike; one that ends is replaced."""

    RESOURCE: ClassVar[Resource] = Resource("kubevirt.io", "v1", "virtualmachineinstancereplicasets", "VirtualMachineInstanceReplicaSet")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("vmirs", "vmirss"),
        categories=("all",),
        columns=(
            Column("Desired", ".spec.replicas", "integer"),
            Column("Current", ".status.replicas", "integer"),
            Column("Ready", ".status.readyReplicas", "integer"),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        scale=Scale(".spec.replicas", ".status.replicas", ".status.labelSelector"),
        variables={
            **machine_variables("object.spec.template.?spec.orValue({})"),
            "labels": "object.spec.template.?metadata.?labels.orValue({})",
        },
        rules=(
            Rule(
                "size(object.spec.selector.?matchLabels.orValue({})) + size(object.spec.selector.?matchExpressions.orValue([])) > 0",
                "'spec.selector is empty and would take every instance of the namespace; write matchLabels'",
            ),
            Rule(
                "object.spec.selector.?matchLabels.orValue({}).all(name, name in variables.labels"
                " && variables.labels[name] == object.spec.selector.matchLabels[name])"
                " && object.spec.selector.?matchExpressions.orValue([]).all(term,"
                " term.operator == 'In' ? term.key in variables.labels && variables.labels[term.key] in term.?values.orValue([])"
                " : term.operator == 'NotIn' ? !(term.key in variables.labels && variables.labels[term.key] in term.?values.orValue([]))"
                " : term.operator == 'Exists' ? term.key in variables.labels"
                " : term.operator == 'DoesNotExist' ? !(term.key in variables.labels) : false)",
                "'spec.selector does not match spec.template.metadata.labels; instances would be made without end: write the same labels'",
            ),
            Rule(
                "oldObject == null || object.spec.selector == oldObject.spec.selector",
                "'spec.selector cannot change; make another set'",
            ),
            memory_rule("spec.template.spec"),
            *machine_rules("spec.template.spec"),
        ),
    )

    spec: ReplicaSetSpec
    status: Annotated[ReplicaSetStatus | None, shape(nullable=True)] = None
