"""Long-lived processes with a name: they outlive whoever started them and are found again by anybody."""

from pilvi.host.cgroups.limits import CgroupLimits
from pilvi.host.units.probes import HttpProbe, Probe, SocketProbe, TcpProbe
from pilvi.host.units.spec import FIRST_DESCRIPTOR, OpenFile, OpenTap, UnitSpec, UnitState
from pilvi.host.units.state import read_units
from pilvi.host.units.units import Units

__all__ = [
    "FIRST_DESCRIPTOR",
    "CgroupLimits",
    "HttpProbe",
    "OpenFile",
    "OpenTap",
    "Probe",
    "SocketProbe",
    "TcpProbe",
    "UnitSpec",
    "UnitState",
    "Units",
    "read_units",
]
