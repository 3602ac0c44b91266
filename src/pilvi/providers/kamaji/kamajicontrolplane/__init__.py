"""KamajiControlPlane: a TenantControlPlane for one Cluster of Cluster API."""
