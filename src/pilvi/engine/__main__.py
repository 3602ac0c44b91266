"""Entry point of the engine's process: `python -m pilvi.engine --home DIR`."""

import argparse
import asyncio
import logging
import sys
from datetime import timedelta
from pathlib import Path

from pilvi.controlplane import Flags
from pilvi.engine.main import run_engine
from pilvi.engine.process import EXIT_HOPELESS, claim_engine
from pilvi.errors import UserError, format_chain
from pilvi.host.cloud import get_cloud
from pilvi.providers.platform import Settings

log = logging.getLogger("pilvi.engine")


def main() -> int:
    """Run the engine; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pilvi.engine", description="The engine of one cloud. `pilvi up` starts it.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--leaf-lifetime-s", type=float, default=Settings().leaf_lifetime.total_seconds())
    parser.add_argument(
        "--plane-flag",
        action="append",
        default=[],
        metavar="COMPONENT=FLAG",
        help="more flags for the platform, for example kube-controller-manager=--node-monitor-grace-period=20s",
    )
    parser.add_argument("--debug", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    settings = Settings(leaf_lifetime=timedelta(seconds=arguments.leaf_lifetime_s))
    plane_flags: dict[str, Flags] = {}
    for component, _, flag in (words.partition("=") for words in arguments.plane_flag):
        plane_flags[component] = (*plane_flags.get(component, ()), flag)
    try:
        cloud = get_cloud(arguments.home)
        claim_engine(cloud)
        asyncio.run(run_engine(cloud, settings, plane_flags))
    except UserError as e:
        log.error("%s", format_chain(e))
        return EXIT_HOPELESS
    except BaseExceptionGroup as e:
        hopeless, rest = e.split(UserError)
        log.error("the engine ends", exc_info=rest or hopeless)
        return EXIT_HOPELESS if hopeless and not rest else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
