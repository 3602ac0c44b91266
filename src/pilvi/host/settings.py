"""Kernel settings of the whole host that a cloud needs changed, and their way back.

The value before the first change is kept in the host file, with the ids of all clouds that need the setting. The last of them puts
it back, unless somebody else has changed it meanwhile.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pilvi.errors import UserError
from pilvi.host.hostfile import HOST_FILE, Setting, open_host_file

__all__ = ["ensure_setting", "read_setting", "release_settings"]

log = logging.getLogger(__name__)

_PROC_SYS = Path("/proc/sys")


def read_setting(name: str, *, proc_sys: Path = _PROC_SYS) -> str | None:
    """The present value, or None when this kernel has no such setting."""
    try:
        return (proc_sys / name.replace(".", "/")).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def ensure_setting(
    cloud_id: str, name: str, value: str, *, at_least: bool = False, host_file: Path = HOST_FILE, proc_sys: Path = _PROC_SYS
) -> None:
    """Have the setting be `value` (with `at_least`: a number not below it) for as long as this cloud needs it.

    Nothing is recorded when it has been so before pilvi came. Blocking, short. Raises UserError when the kernel refuses it.
    """
    with open_host_file(host_file) as host:
        present = read_setting(name, proc_sys=proc_sys)
        if present is None:
            raise UserError(f"this kernel has no setting {name}", hint="see `pilvi doctor`")
        known = host.settings.get(name)
        if known is not None and cloud_id not in known.users:
            known.users.append(cloud_id)
        if int(present) >= int(value) if at_least else present == value:
            return
        _write(proc_sys, name, value)
        log.info("host setting %s changed from %s to %s", name, present, value)
        if known is None:
            host.settings[name] = Setting(before=present, ours=value, users=[cloud_id])
        else:
            known.ours = value


def release_settings(cloud_id: str, *, host_file: Path = HOST_FILE, proc_sys: Path = _PROC_SYS) -> list[str]:
    """The cloud needs none any more: put back those that no other cloud needs, and return their names. Blocking, short.

    They are read again before they count as put back. Raises UserError when the kernel refuses one or shows another value.
    """
    restored = []
    with open_host_file(host_file) as host:
        for name, setting in list(host.settings.items()):
            setting.users = [user for user in setting.users if user != cloud_id]
            if setting.users:
                continue
            del host.settings[name]
            if read_setting(name, proc_sys=proc_sys) == setting.ours:
                _write(proc_sys, name, setting.before)
                _check(proc_sys, name, setting.before)
                restored.append(name)
            else:
                log.info("host setting %s is left alone: somebody has changed it since", name)
    return restored


def _check(proc_sys: Path, name: str, wanted: str) -> None:
    present = read_setting(name, proc_sys=proc_sys)
    if present != wanted:
        raise UserError(f"{name} was set back to {wanted}, but is {present}", hint=f"run `sysctl -w {name}={wanted}` on the host itself")


def _write(proc_sys: Path, name: str, value: str) -> None:
    try:
        (proc_sys / name.replace(".", "/")).write_text(value, encoding="ascii")
    except OSError as e:
        raise UserError(
            f"cannot set {name} to {value}", hint=f"run `sysctl -w {name}={value}` on the host itself, outside of any container"
        ) from e
