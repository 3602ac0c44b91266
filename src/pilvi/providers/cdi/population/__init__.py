"""Fills claims with what their DataVolume, or their dataSourceRef, says."""
