"""The engine as a systemd service, where systemd is process 1."""

import os
from pathlib import Path

from pilvi.host.cloud import Cloud
from pilvi.lib.files import write_atomic
from pilvi.lib.run import run

SYSTEMCTL_TIMEOUT_S = 60.0


def is_available() -> bool:
    """Whether systemd runs this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def unit_file(cloud: Cloud, argv: list[str]) -> str:
    """The service's unit file. Only the engine is killed with the service: units belong to the cloud, not to it.

    It is started anew however often it has died: systemd would give up after five times.
    """
    command = " ".join(_quote(word) for word in argv)
    return f"""[Unit]
Description=pilvi cloud {cloud.id} in {cloud.home}
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={command}
{_environment()}KillMode=process
Delegate=yes
Restart=on-failure
RestartSec=1
RestartPreventExitStatus=78

[Install]
WantedBy=multi-user.target
"""


async def install(cloud: Cloud, argv: list[str]) -> None:
    """Write the unit file, enable it at boot and start it; may be called repeatedly. Raises DriverError."""
    write_atomic(cloud.service_file, unit_file(cloud, argv))
    await run(["systemctl", "daemon-reload"], timeout_s=SYSTEMCTL_TIMEOUT_S)
    await run(["systemctl", "enable", "--now", cloud.service_file.name], timeout_s=SYSTEMCTL_TIMEOUT_S)


async def remove(cloud: Cloud) -> None:
    """Stop the service and remove its file; fine when there is none. Raises DriverError."""
    if not cloud.service_file.exists():
        return
    await run(["systemctl", "disable", "--now", cloud.service_file.name], timeout_s=SYSTEMCTL_TIMEOUT_S)
    cloud.service_file.unlink(missing_ok=True)
    await run(["systemctl", "daemon-reload"], timeout_s=SYSTEMCTL_TIMEOUT_S)


def _environment() -> str:
    """What of our own environment the engine needs too: where the kit is."""
    cache = os.environ.get("PILVI_CACHE")
    return f"Environment={_quote(f'PILVI_CACHE={cache}')}\n" if cache else ""


def _quote(word: str) -> str:
    # systemd reads % and $ as its own (systemd.service(5)).
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
