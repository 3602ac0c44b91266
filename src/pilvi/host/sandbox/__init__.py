"""Runs any root file system with any init in namespaces of its own, as one unit. Knows nothing of Kubernetes."""

from pilvi.host.sandbox.proc_files import cpuinfo_file, meminfo_file, private_sysctls
from pilvi.host.sandbox.spec import Bind, SandboxFile, SandboxSpec, Tmpfs
from pilvi.host.sandbox.state import prepare_sandbox, remove_sandbox
from pilvi.host.sandbox.unit import sandbox_unit

__all__ = [
    "Bind",
    "SandboxFile",
    "SandboxSpec",
    "Tmpfs",
    "cpuinfo_file",
    "meminfo_file",
    "prepare_sandbox",
    "private_sysctls",
    "remove_sandbox",
    "sandbox_unit",
]
