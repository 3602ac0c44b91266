"""The platform's own plane: its control plane, network, kinds and defaults; up, down, doctor, status."""
