"""The kinds that pilvi reads and serves.

`resource` names kinds and objects, `builtin` lists the kinds of Kubernetes and Cluster API that upstream serves, and each other
module holds the structs of one API group that pilvi itself serves, with a `RESOURCE` each.
"""

from pilvi.api.resource import JsonObject, Key, Resource

__all__ = ["JsonObject", "Key", "Resource"]
