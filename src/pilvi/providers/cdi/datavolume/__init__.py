"""Makes the claim of each DataVolume and reports how it is filled."""
