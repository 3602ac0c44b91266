"""What a unit is, as data, and what is known of a running one."""

from __future__ import annotations

import hashlib
import re
import signal
from pathlib import Path
from typing import Literal

import msgspec

from pilvi.errors import Bug
from pilvi.host import codec
from pilvi.host.cgroups.limits import CgroupLimits
from pilvi.host.units.probes import Probe

__all__ = ["FIRST_DESCRIPTOR", "OpenFile", "OpenTap", "UnitSpec", "UnitState", "check_spec"]

FIRST_DESCRIPTOR = 10
"""The number of the first descriptor that a unit is handed; the others follow in order."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,58}[a-z0-9])?")


class OpenFile(msgspec.Struct, frozen=True, kw_only=True, tag="file"):
    """A file that the launcher opens as root, so that the unit's user needs no right to its path. It must exist.

    With `append` it is made when it is missing, only ever added to, and kept short like the unit's own log.
    """

    path: Path
    writable: bool = False
    append: bool = False


class OpenTap(msgspec.Struct, frozen=True, kw_only=True, tag="tap"):
    """One queue of the persistent tap device `name` in namespace `netns` (None: the host's), whichever namespace the unit is in."""

    name: str
    netns: str | None


class UnitSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One long-lived process.

    `name` is unique in its cloud, `[a-z0-9.-]`, 60 characters at most. `netns` None is the host's namespace. `uid` other than 0 also means
    no new privileges, a umask of 077 and no supplementary groups. `env` is the whole environment; secrets do not belong there.
    `cgroup` None means a group of its own without limits. `log_path` gets stdout and stderr; its folder is made when missing.
    `nofile` is the wanted limit of open files; the hard limit of the host caps it. `ready` is asked inside `netns`.
    `stop_signal` goes to the process, and SIGKILL to all in its group `stop_grace_s` seconds later. `descriptors` are open when the
    program begins, numbered from FIRST_DESCRIPTOR on; they are opened anew at each restart. `hollow_capabilities` (numbers of
    capabilities(7)) are for programs that refuse to start without: the unit has them in a user namespace of its own, where they give
    power over nothing that is outside of it, its network namespace included.
    """

    name: str
    argv: tuple[str, ...]
    log_path: Path
    env: dict[str, str] = {}
    netns: str | None = None
    uid: int = 0
    gid: int = 0
    cwd: Path = Path("/")
    cgroup: CgroupLimits | None = None
    nofile: int = 65536
    ready: Probe | None = None
    restart: Literal["always", "never"] = "always"
    stop_signal: int = int(signal.SIGTERM)
    stop_grace_s: float = 10.0
    descriptors: tuple[OpenFile | OpenTap, ...] = ()
    hollow_capabilities: tuple[int, ...] = ()

    @property
    def digest(self) -> str:
        """Changes when the process has to be replaced: over all fields but `ready`."""
        return hashlib.sha256(codec.encode(msgspec.structs.replace(self, ready=None))).hexdigest()[:16]


class UnitState(msgspec.Struct, frozen=True, kw_only=True):
    """A unit as it is now.

    `state`: `running`; `waiting` (died, is started again soon); `exited` (died, stays so); `absent` (no such unit).
    `memory_bytes` is what would be free without it: anonymous and shared memory of its group, without page cache (see
    `Cgroups.memory_bytes`); None when it does not run. `started_at` is in seconds since the epoch. `exit` tells how the process
    before this one ended (or this one, when it does not run): `exit code 1`, `signal SIGKILL`, or `unknown` for one that another
    engine had started. `log_tail` holds the last lines.
    """

    name: str
    state: Literal["running", "waiting", "exited", "absent"]
    pid: int | None = None
    memory_bytes: int | None = None
    started_at: float | None = None
    exit: str | None = None
    restarts: int = 0
    log_tail: str = ""


def check_spec(spec: UnitSpec) -> None:
    """Raises Bug for a specification that cannot be meant: they are made by code, never typed by a person."""
    if _NAME.fullmatch(spec.name) is None:
        raise Bug(f"{spec.name!r} cannot be the name of a unit")
    if not spec.argv:
        raise Bug(f"unit {spec.name} has no argv")
    if not spec.log_path.is_absolute() or not spec.cwd.is_absolute():
        raise Bug(f"unit {spec.name}: log_path and cwd must be absolute")
    if spec.uid == 0 and spec.gid != 0:
        raise Bug(f"unit {spec.name}: a gid without a uid has no effect")
    if spec.hollow_capabilities and spec.uid == 0:
        raise Bug(f"unit {spec.name}: root has all capabilities, and they are not hollow")
