"""`pilvi host`: the virtual hosts of a cloud. Its commands are imported when they are run."""

from __future__ import annotations

from pilvi.cli.lazy import LazyGroup

__all__ = ["host"]

host = LazyGroup(
    name="host",
    package="pilvi.cli.host",
    commands={
        "list": ("list", "List virtual hosts."),
        "fail": ("fail", "Let a virtual host fail, for an exercise."),
        "recover": ("fail", "Let a virtual host that has failed come back."),
    },
    help="""List virtual hosts, and let them fail and come back.

\b
Example:
  sudo pilvi up --hosts 2
  pilvi host list
""",
    context_settings={"help_option_names": ["-h", "--help"]},
)
