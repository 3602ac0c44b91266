"""Keys, certificates and kubeconfigs of control planes: EC P-256 throughout, made in memory, never logged.

Called by `plane/` for the platform and by `providers/kamaji/` for tenants. All values are PEM bytes, as the Secrets hold them.
"""

from pilvi.pki.certificates import (
    KeyPair,
    Usage,
    create_ca,
    create_signing_key,
    expires_at,
    get_names,
    issue,
    needs_renewal,
    public_key_hash,
)
from pilvi.pki.kubeconfig import kubeconfig_by_file, kubeconfig_inline

__all__ = [
    "KeyPair",
    "Usage",
    "create_ca",
    "create_signing_key",
    "expires_at",
    "get_names",
    "issue",
    "kubeconfig_by_file",
    "kubeconfig_inline",
    "needs_renewal",
    "public_key_hash",
]
