"""Labels, annotations, finalizers and names of Kamaji's kinds that users and other programs know."""

# Kamaji's
NAME_LABEL = "kamaji.clastix.io/name"
COMPONENT_LABEL = "kamaji.clastix.io/component"
PROJECT_LABEL = "kamaji.clastix.io/project"
TENANT_FINALIZER = "kamaji.clastix.io/finalizer"
DATASTORE_FINALIZER = "kamaji.clastix.io/datastore"
ROTATE_ANNOTATION = "certs.kamaji.clastix.io/rotate"
TENANT_PAUSED_ANNOTATION = "kamaji.clastix.io/paused"
KUBECONFIG_KEY_ANNOTATION = "kamaji.clastix.io/kubeconfig-secret-key"

# Cluster API's
CLUSTER_NAME_LABEL = "cluster.x-k8s.io/cluster-name"
PAUSED_ANNOTATION = "cluster.x-k8s.io/paused"
MANAGED_BY_ANNOTATION = "cluster.x-k8s.io/managed-by"
MANAGED_BY_KAMAJI = "kamaji"
CLUSTER_SECRET_TYPE = "cluster.x-k8s.io/secret"  # noqa: S105 (a type, no password)
CONTROL_PLANE_FINALIZER = "kamajicontrolplane.controlplane.cluster.x-k8s.io"

MANAGER = "pilvi-kamaji"  # field manager of everything that is written here

DEFAULT_DATASTORE = "default"


def labels(name: str, component: str) -> dict[str, str]:
    """The labels that Kamaji puts on what belongs to the TenantControlPlane `name`."""
    return {PROJECT_LABEL: "kamaji", NAME_LABEL: name, COMPONENT_LABEL: component}
