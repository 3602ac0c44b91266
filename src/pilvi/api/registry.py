"""What the cloud's own registry is called, and where its password is kept."""

from pilvi.api.resource import Key

__all__ = ["REGISTRY_HOST", "REGISTRY_PORT", "REGISTRY_SECRET", "REGISTRY_USER"]

REGISTRY_HOST = "pilvi.dev"
"""The host in the names of its images, for example `pilvi.dev/node:v1.37.2`. It is known inside the cloud, by its engine and its VPCs."""
REGISTRY_PORT = 443
"""Its port on the platform's address: the one that clients take for a name without a port."""
REGISTRY_SECRET = Key("pilvi-system", "pilvi-registry")
"""The Secret, of type kubernetes.io/dockerconfigjson, with the user and the password for pushing."""
REGISTRY_USER = "pilvi"
