"""The host's package sources, in both formats of apt."""

from pathlib import Path

from pilvi.node.debian import debian_sources


def test_deb822_stanzas(tmp_path: Path) -> None:
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / "debian.sources").write_text(
        "Types: deb deb-src\n# comment\nURIs: http://mirror/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\n"
        "Signed-By: /k.gpg\n\n"
        "Types: deb\nURIs: http://mirror/security\nSuites: bookworm-security\nComponents: main\n\n"
        "Types: deb\nURIs: http://other/x\nSuites: nodistro\nComponents: main\n\n"
        "Enabled: no\nTypes: deb\nURIs: http://off\nSuites: bookworm\nComponents: main\n"
    )
    assert debian_sources("bookworm", tmp_path) == [
        "deb [signed-by=/k.gpg] http://mirror/debian bookworm main",
        "deb [signed-by=/k.gpg] http://mirror/debian bookworm-updates main",
        "deb http://mirror/security bookworm-security main",
    ]


def test_one_line_sources(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(
        "# nothing\ndeb [arch=amd64 signed-by=/k.gpg] http://mirror/debian bookworm main non-free\n"
        "deb-src http://mirror/debian bookworm main\ndeb http://x bookworm contrib\n"
    )
    assert debian_sources("bookworm", tmp_path) == ["deb [signed-by=/k.gpg] http://mirror/debian bookworm main"]


def test_host_with_another_suite_has_none(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://mirror/debian trixie main\ndeb http://mirror/s bookworm-security main\n")
    assert debian_sources("bookworm", tmp_path) == []
