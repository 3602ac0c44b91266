"""SIGUSR2: the engine writes into its log where every thread and every task is (docs/how-to/bug-reports.md)."""

import asyncio
import faulthandler
import logging
import signal

from pilvi.runtime import render_tasks

log = logging.getLogger(__name__)


def dump_on_signal(loop: asyncio.AbstractEventLoop) -> None:
    """From now on. The threads come from the signal handler itself, so also from an engine whose loop is stuck; the tasks from the loop."""
    loop.add_signal_handler(signal.SIGUSR2, lambda: log.warning("asked by SIGUSR2, all tasks:\n%s", render_tasks()))
    faulthandler.register(signal.SIGUSR2, all_threads=True, chain=True)
