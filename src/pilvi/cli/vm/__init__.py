"""`pilvi vm`: virtual machines by name, without virtctl. Its commands are imported when they are run."""

from __future__ import annotations

from pilvi.cli.lazy import LazyGroup

__all__ = ["vm"]

vm = LazyGroup(
    name="vm",
    package="pilvi.cli.vm",
    commands={
        "list": ("list", "List virtual machines."),
        "describe": ("describe", "Show a virtual machine with its addresses and conditions."),
        "start": ("power", "Start a machine and wait until it runs."),
        "stop": ("power", "Stop a machine and wait until it is off."),
        "restart": ("power", "Stop a machine and start it again."),
        "pause": ("power", "Let a machine stand still."),
        "unpause": ("power", "Let a paused machine go on."),
        "migrate": ("migrate", "Move a running machine to another virtual host."),
        "export": ("export", "Write a disk of a machine, a snapshot or a claim into a file."),
        "console": ("console", "Open the serial console of a machine."),
        "vnc": ("vnc", "Serve the screen of a machine on a local port."),
    },
    help="""List virtual machines, start and stop them, and look at them.

\b
Example:
  pilvi vm list
  pilvi vm start team-a/web
  pilvi vm console team-a/web
""",
    context_settings={"help_option_names": ["-h", "--help"]},
)
