"""TenantControlPlane: etcd, API server, controller manager and scheduler of one cluster, in a network namespace of their own."""
