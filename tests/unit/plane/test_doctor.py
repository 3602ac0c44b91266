"""What a host needs, as far as it can be asked without root."""

from __future__ import annotations

from pathlib import Path

from pilvi.plane import doctor


def test_the_rows_of_two_places_have_names_of_their_own() -> None:
    assert [finding.name for finding in doctor._reachable(Path("/var/lib/none"))] == ["home", "kit's folder"]
