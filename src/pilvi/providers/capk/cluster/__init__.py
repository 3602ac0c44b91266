"""KubevirtCluster: the network of a cluster and its endpoint."""
