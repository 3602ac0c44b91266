"""Control groups behind one interface, for hosts with version 1 (a tree per controller) and with version 2 (one tree)."""

from pilvi.host.cgroups.interface import Cgroups, find_cgroups, get_cgroups
from pilvi.host.cgroups.limits import CgroupLimits

__all__ = ["CgroupLimits", "Cgroups", "find_cgroups", "get_cgroups"]
