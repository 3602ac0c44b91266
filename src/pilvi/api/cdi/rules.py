"""Refusals that a DataVolume decides by itself. Its claim would wait for ever, so they come at once.

Whether somebody may copy a disk of another namespace is asked of the API server's own authorizer, in the policy: the right to create
`datavolumes/source` there, as upstream's webhook asks.
"""

from pilvi.api.object import Rule

__all__ = ["CHECKSUM", "clone_right", "data_volume_rules", "data_volume_variables"]

CHECKSUM = "^(md5:[0-9a-fA-F]{32}|sha1:[0-9a-fA-F]{40}|sha256:[0-9a-fA-F]{64}|sha512:[0-9a-fA-F]{128})$"
"""A checksum of an HTTP source."""

SOURCES = ("blank", "gcs", "http", "imageio", "pvc", "registry", "s3", "snapshot", "upload", "vddk")


def clone_right(namespace: str) -> str:
    """CEL: whether the one who asks may copy disks of the namespace that the CEL expression `namespace` gives."""
    return (
        f"({namespace} == object.metadata.?namespace.orValue('') || authorizer.group('cdi.kubevirt.io').resource('datavolumes')"
        f".subresource('source').namespace({namespace}).check('create').allowed())"
    )


def data_volume_variables(spec: str) -> dict[str, str]:
    """CEL variables that `data_volume_rules` needs; `spec` is the CEL expression of the DataVolume's spec."""
    members = ", ".join(f"{spec}.?source.?{name}.hasValue()" for name in SOURCES)
    return {
        "dv": spec,
        "claim": "has(variables.dv.storage) ? variables.dv.storage : variables.dv.?pvc.orValue({})",
        "sources": f"[{members}].filter(given, given).size()",
        "size": "variables.claim.?resources.?requests.?storage",
        "from": (
            "[variables.dv.?source.?pvc.?namespace, variables.dv.?source.?snapshot.?namespace, variables.dv.?sourceRef.?namespace]"
            ".filter(ns, ns.hasValue()).map(ns, ns.value())"
        ),
        "populated": "variables.claim.?dataSource.hasValue() || variables.claim.?dataSourceRef.hasValue()",
    }


def data_volume_rules(path: str) -> tuple[Rule, ...]:
    """Rules over these variables; `path` is the field path of the spec, for messages."""
    return (
        Rule(
            "oldObject == null || object.spec == oldObject.?spec.orValue({})",
            f"'{path} cannot be changed, the claim is made from it once; delete the DataVolume and make a new one'",
        ),
        Rule(
            "has(variables.dv.pvc) != has(variables.dv.storage)",
            f"'set exactly one of {path}.storage (with defaults of the storage class) and {path}.pvc (as written)'",
        ),
        Rule(
            "!(has(variables.dv.source) && has(variables.dv.sourceRef))",
            f"'set one of {path}.source and {path}.sourceRef, not both'",
        ),
        Rule(
            "!has(variables.dv.source) || variables.sources == 1",
            f"'{path}.source names ' + string(variables.sources) + ' sources; name exactly one of "
            "blank, http, registry, pvc, snapshot, upload'",
        ),
        Rule(
            "has(variables.dv.source) || has(variables.dv.sourceRef) || variables.populated",
            f"'nothing says what shall be on the disk; set {path}.source, for example blank: {{}} for an empty one'",
        ),
        Rule(
            "!((has(variables.dv.source) || has(variables.dv.sourceRef)) && variables.populated)",
            f"'set one of {path}.source and a dataSource of the claim, not both'",
        ),
        Rule(
            "variables.dv.?sourceRef.?kind.orValue('DataSource') == 'DataSource'",
            f"'{path}.sourceRef.kind must be DataSource'",
        ),
        Rule(
            "variables.dv.?source.?http.?url.orValue('http://').matches('^https?://')",
            f"'{path}.source.http.url must begin with http:// or https://'",
        ),
        Rule(
            f"variables.dv.?source.?http.?checksum.optMap(sum, sum.matches('{CHECKSUM}')).orValue(true)",
            f"'{path}.source.http.checksum must be md5, sha1, sha256 or sha512, a colon and all hex digits of the digest'",
        ),
        Rule(
            "!variables.dv.?source.?registry.hasValue() || variables.dv.source.registry.?url.orValue('').startsWith('docker://')",
            f"'{path}.source.registry.url must be docker:// and a container disk, for example docker://quay.io/containerdisks/debian:12'",
        ),
        Rule(
            "variables.size.optMap(size, isQuantity(string(size)) && quantity(string(size)).isGreaterThan(quantity('0'))).orValue(true)",
            f"'the size in {path} must be a positive quantity such as 10Gi'",
        ),
        Rule(
            "variables.size.hasValue() || (has(variables.dv.storage) && (variables.dv.?source.?pvc.hasValue()"
            " || variables.dv.?source.?snapshot.hasValue() || has(variables.dv.sourceRef)))",
            f"'the size of the disk is not given; write resources.requests.storage, for example 10Gi, below {path}.storage or {path}.pvc'",
        ),
        Rule(
            "!has(variables.dv.pvc) || size(variables.dv.pvc.?accessModes.orValue([])) > 0",
            f"'{path}.pvc.accessModes is empty; write ReadWriteOnce, or use {path}.storage'",
        ),
        Rule(
            f"variables.from.all(ns, {clone_right('ns')})",
            f"'{path}: the disk to copy is in another namespace, ' + variables.from.join(', ')"
            " + ', in which you may not create datavolumes/source; a role there has to allow it'",
        ),
    )
