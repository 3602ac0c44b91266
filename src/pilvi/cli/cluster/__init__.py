"""`pilvi cluster`: Kubernetes clusters by name. Its commands are imported when they are run."""

from __future__ import annotations

from pilvi.cli.lazy import LazyGroup

__all__ = ["cluster"]

cluster = LazyGroup(
    name="cluster",
    package="pilvi.cli.cluster",
    commands={
        "create": ("create", "Create a cluster and wait until it can be used."),
        "list": ("list", "List clusters."),
        "describe": ("describe", "Show a cluster with its parts, and why it is not ready."),
        "scale": ("scale", "Change the number of workers."),
        "kubeconfig": ("kubeconfig", "Print or merge the kubeconfig of a cluster."),
        "delete": ("delete", "Delete a cluster and wait until nothing of it is left."),
    },
    help="""Create, list, scale and delete Kubernetes clusters.

\b
Example:
  pilvi cluster create first --workers 2
  pilvi cluster list
""",
    context_settings={"help_option_names": ["-h", "--help"]},
)
