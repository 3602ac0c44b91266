"""Debian packages, from the host's own sources, so that a mirror or a closed network set up there serves here too."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pilvi.lib.run import run

SUITE = "bookworm"
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
_BOOTSTRAP_TIMEOUT_S = 900.0
_APT = Path("/etc/apt")


async def bootstrap_debian(root: Path, packages: Sequence[str], *, hooks: Sequence[str] = ()) -> None:
    """Install Debian with these packages and what they depend on below `root`, which must not exist.

    `hooks` are shell commands that run at the end with the root's path as `$1`. Needs root. Raises DriverError.
    """
    argv: list[str | Path] = ["mmdebstrap", "--quiet", "--mode=root", "--variant=essential", "--format=directory"]
    argv += [f"--include={','.join(packages)}", *(f"--customize-hook={hook}" for hook in hooks)]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    # Debian's copyright files stay, as its licences ask.
    argv += ["--dpkgopt=path-include=/usr/share/doc/*/copyright", SUITE, root, *debian_sources(SUITE)]
    proxies = {name: value for name, value in os.environ.items() if name.lower() in {"http_proxy", "https_proxy", "no_proxy"}}
    await run(argv, timeout_s=_BOOTSTRAP_TIMEOUT_S, env=proxies)


def debian_sources(suite: str, apt: Path = _APT) -> list[str]:
    """One-line sources (`deb URI SUITE main`) of the host for `suite`, its updates and its security fixes.

    Empty when the host does not use this suite (another Debian release, another distribution): the caller's tool then takes Debian's
    own archive. Third-party sources are never taken, since they have other suites.
    """
    wanted = (suite, f"{suite}-updates", f"{suite}-security")
    found = {}
    for uri, name, signed_by in _sources(apt):
        if name in wanted:
            options = f"[signed-by={signed_by}] " if signed_by else ""
            found[f"deb {options}{uri} {name} main"] = name
    # Without the suite itself the updates alone install nothing.
    return list(found) if suite in found.values() else []


def _sources(apt: Path) -> Iterator[tuple[str, str, str]]:
    """(URI, suite, key file) of every binary source with the component main."""
    for path in sorted([apt / "sources.list", *(apt / "sources.list.d").glob("*.list")]):
        if path.is_file():
            for line in path.read_text().splitlines():
                yield from _one_line(line)
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        for stanza in path.read_text().split("\n\n"):
            yield from _stanza(stanza)


def _one_line(line: str) -> Iterator[tuple[str, str, str]]:
    signed_by = ""
    before, opening, rest = line.partition("[")
    if opening:
        options, _, after = rest.partition("]")
        signed_by = next((option.partition("=")[2] for option in options.split() if option.startswith("signed-by=")), "")
        line = f"{before} {after}"
    words = line.split("#")[0].split()
    if len(words) >= 4 and words[0] == "deb" and "main" in words[3:]:
        yield words[1], words[2], signed_by


def _stanza(stanza: str) -> Iterator[tuple[str, str, str]]:
    fields = {}
    for line in stanza.splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
    if fields.get("enabled", "yes").lower() in {"no", "false"} or "deb" not in fields.get("types", "").split():
        return
    if "main" in fields.get("components", "").split():
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield uri, suite, fields.get("signed-by", "")
