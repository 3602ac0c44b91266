"""Readiness and liveness probes of an instance: the work of a kubelet, since the Pod of a machine has none."""
