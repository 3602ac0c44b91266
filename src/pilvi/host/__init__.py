"""The machine that a cloud runs on: processes, namespaces, links, rules, control groups, mounts. Knows nothing of Kubernetes.

Import the module or package that you need; nothing is re-exported here, because the network part costs half a second to import
and the command line must not pay for it.
"""
