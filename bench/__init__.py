"""Measures a cloud against a floor: the same programs started by plain scripts, in the same run on the same machine."""
