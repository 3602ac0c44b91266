"""DataStore: where control planes keep their data."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated, Any, ClassVar, Literal

from pilvi.api.core import ATOMIC, Condition
from pilvi.api.field import Part, accepted, rejected, shape
from pilvi.api.object import Column, Definition, Object, Rule
from pilvi.api.resource import Resource

__all__ = ["DataStore", "DataStoreSpec", "DataStoreStatus"]

ITS_OWN = "every control plane has an etcd of its own, which needs no credentials of yours"


class SecretKeyReference(Part):
    SCHEMA: ClassVar[dict[str, Any]] = ATOMIC

    key_path: Annotated[str, shape(min_length=1)]
    name: str | None = None
    namespace: str | None = None


class ContentRef(Part):
    content: Annotated[str | None, shape(format="byte")] = None
    secret_reference: SecretKeyReference | None = None


class BasicAuth(Part):
    password: ContentRef
    username: ContentRef


class CertificateAuthority(Part):
    certificate: ContentRef
    private_key: ContentRef | None = None


class ClientCertificate(Part):
    certificate: ContentRef
    private_key: ContentRef


class TlsConfig(Part):
    certificate_authority: CertificateAuthority
    client_certificate: ClientCertificate | None = None


class DataStoreSpec(Part):
    driver: Annotated[
        Literal["etcd", "MySQL", "PostgreSQL", "NATS"],
        rejected("Kind of the store.", "only etcd is built in", "driver: etcd", when="self != 'etcd'"),
    ]
    endpoints: Annotated[
        list[str],
        accepted("Addresses of the store.", "every control plane has an etcd of its own, on this host", min_items=1),
    ]
    basic_auth: Annotated[BasicAuth | None, accepted("User and password.", ITS_OWN)] = None
    tls_config: Annotated[TlsConfig | None, accepted("Certificates.", ITS_OWN)] = None


class DataStoreStatus(Part):
    ready: Annotated[bool, shape("Control planes can use the store.")]
    conditions: list[Condition] = []
    observed_generation: int | None = None
    used_by: Annotated[list[str], shape("Control planes (NAMESPACE/NAME) that use the store.")] = []


class DataStore(Object):
    """Where control planes keep their data. The one called default stands for an etcd of its own for every control plane."""

    RESOURCE: ClassVar[Resource] = Resource("kamaji.clastix.io", "v1alpha1", "datastores", "DataStore", namespaced=False)
    DEFINITION: ClassVar[Definition] = Definition(
        columns=(
            Column("Driver", ".spec.driver"),
            Column("Ready", ".status.ready", "boolean"),
            Column("Age", ".metadata.creationTimestamp", "date"),
        ),
        rules=(
            Rule(
                "oldObject == null || oldObject.spec.driver == object.spec.driver",
                "'spec.driver cannot change; make a new DataStore with another name'",
            ),
        ),
    )

    spec: DataStoreSpec | None = None
    status: DataStoreStatus | None = None
