"""VolumeSnapshots, and the contents that hold their copies."""
