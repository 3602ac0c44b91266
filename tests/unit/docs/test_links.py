"""Every relative link in the documentation leads somewhere, and every command that it shows exists."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pilvi.cli.main import COMMANDS, pilvi

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
# `pilvi` where a command begins, with or without a path and sudo before it, and the two words that follow.
_COMMAND = re.compile(r"(?:^|\$ |sudo |[;|&(] *)(?:\S*/)?pilvi +([a-z]+)(?: +([a-z]+))?")


def _anchor(heading: str) -> str:
    """As Git hosts make it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """Each use of `pilvi` in code: its two words, the second may be empty."""
    for block in _BLOCK.findall(text):
        for line in block.splitlines():
            yield from _COMMAND.findall(line.strip().partition("#")[0])
    for code in _CODE.findall(_BLOCK.sub("", text)):
        yield from _COMMAND.findall(code)


def _subcommands(name: str) -> dict[str, object] | None:
    """The commands of a group; None for a plain command."""
    command = getattr(importlib.import_module(f"pilvi.cli.{COMMANDS[name][0]}"), name)
    return dict.fromkeys(command.list_commands(click.Context(pilvi))) if isinstance(command, click.Group) else None


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_BLOCK.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (page.parent / path) if path else page
        if not target.exists() or (
            anchor and target.is_file() and anchor not in map(_anchor, _HEADING.findall(_BLOCK.sub("", target.read_text())))
        ):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_exist(page: Path) -> None:
    unknown = []
    for name, second in _commands(page.read_text()):
        if name not in COMMANDS:
            unknown.append(name)
        elif second and (known := _subcommands(name)) is not None and second not in known:
            unknown.append(f"{name} {second}")
    assert unknown == []


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in _LINK.findall(index.read_text())}
    pages = {page for page in PAGES if page.is_relative_to(ROOT / "docs") and page != index and not page.match("docs/design/0*")}
    assert {str(page.relative_to(ROOT)) for page in pages - linked} == set()
