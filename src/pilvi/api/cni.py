"""The kind of the Network Plumbing Working Group by which a machine joins more networks than the pod network."""

from typing import Annotated, ClassVar

from pilvi.api.field import Part, implemented
from pilvi.api.object import Definition, Object, Rule
from pilvi.api.resource import Resource

__all__ = ["NetworkAttachmentDefinition"]


class NetworkAttachmentDefinitionSpec(Part):
    config: Annotated[
        str | None,
        implemented("CNI configuration in JSON: type kube-ovn, and provider <name>.<namespace>.ovn of this object."),
    ] = None


class NetworkAttachmentDefinition(Object):
    """A network that machines join by an interface of its own: the Subnet whose spec.provider is that of the configuration."""

    RESOURCE: ClassVar[Resource] = Resource("k8s.cni.cncf.io", "v1", "network-attachment-definitions", "NetworkAttachmentDefinition")
    DEFINITION: ClassVar[Definition] = Definition(
        short_names=("net-attach-def",),
        status=False,
        singular="network-attachment-definition",
        rules=(
            Rule(
                "!object.metadata.name.contains('.')",
                "'metadata.name of a NetworkAttachmentDefinition becomes part of a provider: write one without dots'",
            ),
            Rule(
                "object.?spec.?config.orValue('') != ''",
                '\'spec.config is empty, and there are no configurations on the host: write {"cniVersion": "0.3.1", "type": "kube-ovn",'
                " \"provider\": \"' + object.metadata.name + '.' + object.metadata.namespace + '.ovn\"}'",
            ),
        ),
    )

    spec: NetworkAttachmentDefinitionSpec | None = None
