"""Machines as sandboxes: namespaces of the host's kernel around the node image."""
