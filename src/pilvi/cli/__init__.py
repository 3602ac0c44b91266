"""The command line. Subcommands are imported when they are run, so that `--help` stays under 0.2 s."""

from pilvi.cli.main import main

__all__ = ["main"]
