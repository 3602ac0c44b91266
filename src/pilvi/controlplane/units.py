"""The four units of a control plane.

Start order matters: the controller manager exits when no API server answers, so callers start etcd and the API server together
(the API server waits for etcd by itself), then the other two when the API server is ready. They stop in the opposite order:
an API server whose etcd is gone does not end on SIGTERM.
"""

import msgspec

from pilvi import kit
from pilvi.controlplane.components import CONTROLLER_MANAGER_PORT, ETCD_CLIENT_PORT, SCHEDULER_PORT, flags
from pilvi.controlplane.spec import API_SERVER, COMPONENTS, CONTROLLER_MANAGER, ETCD, SCHEDULER, ControlPlane
from pilvi.host.units import CgroupLimits, HttpProbe, TcpProbe, UnitSpec
from pilvi.host.units.probes import Probe

FIRST_COMPONENTS = (ETCD, API_SERVER)
LATER_COMPONENTS = (CONTROLLER_MANAGER, SCHEDULER)

STOP_GRACE_S = 5.0
# Threads too. A component has some twenty, and Go starts more while the disk stands still; one that runs wild must not take all that
# the host has.
PIDS = 1024


def unit_spec(plane: ControlPlane, component: str) -> UnitSpec:
    """The unit that runs `component`; raises KeyError for an unknown one, UserError when the kit lacks its binary."""
    return UnitSpec(
        name=plane.unit(component),
        argv=(str(kit.get_binary(component, plane.version)), *flags(plane, component)),
        env={"PATH": "/usr/bin:/bin", "HOME": str(plane.data_dir)},
        netns=plane.netns,
        uid=plane.uid,
        gid=plane.gid,
        cwd=plane.data_dir,
        cgroup=msgspec.structs.replace(plane.limits.get(component, CgroupLimits()), pids=PIDS),
        log_path=plane.log_dir / f"{plane.unit(component)}.log",
        ready=_probe(plane, component),
        stop_grace_s=STOP_GRACE_S,
    )


def serving_probe(plane: ControlPlane) -> HttpProbe:
    """Answers when the API server does all but one thing: its last hook waits for a second, then makes the default roles.

    Asked as a member of system:masters, who needs no roles; anonymous requests are refused until the roles are there.
    """
    pki = plane.pki_dir
    return HttpProbe(
        url=f"https://{plane.address}:{plane.port}/readyz?exclude=poststarthook/rbac/bootstrap-roles",
        ca_path=pki / "ca.crt",
        cert_path=pki / "super-admin.crt",
        key_path=pki / "super-admin.key",
    )


def unit_names(plane_name: str) -> tuple[str, ...]:
    """Names of all units of the control plane called `plane_name`, in the order in which to stop them."""
    return tuple(f"{plane_name}-{component}" for component in reversed(COMPONENTS))


def _probe(plane: ControlPlane, component: str) -> Probe:
    probes: dict[str, Probe] = {
        ETCD: TcpProbe(host="127.0.0.1", port=ETCD_CLIENT_PORT),
        API_SERVER: HttpProbe(url=f"https://{plane.address}:{plane.port}/readyz", ca_path=plane.pki_dir / "ca.crt"),
        CONTROLLER_MANAGER: TcpProbe(host="127.0.0.1", port=CONTROLLER_MANAGER_PORT),
        SCHEDULER: TcpProbe(host="127.0.0.1", port=SCHEDULER_PORT),
    }
    return probes[component]
