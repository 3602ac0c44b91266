"""Small pure or self-contained helpers that know nothing of pilvi, Kubernetes objects or the host's state.

Import the module that you need; nothing is re-exported here, so that a caller pays only for what it uses.
"""
