"""What a guest's agent tells (QEMU's protocol), in KubeVirt's fields. Pure.

Which command feeds which field is KubeVirt's (pkg/virt-launcher/virtwrap/agent-poller); fields that the agent does not know are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pilvi.api import JsonObject

__all__ = ["COMMANDS", "FILE_SYSTEMS", "INFO", "USERS", "agent_info", "filesystem_list", "user_list"]

INFO = "guest-info"
"""The command that every agent has: its version, and which others it has."""
OS, HOST_NAME, TIMEZONE = "guest-get-osinfo", "guest-get-host-name", "guest-get-timezone"
USERS, FILE_SYSTEMS, FREEZE_STATUS = "guest-get-users", "guest-get-fsinfo", "guest-fsfreeze-status"
COMMANDS = (OS, HOST_NAME, TIMEZONE, USERS, FILE_SYSTEMS, FREEZE_STATUS)
"""What `agent_info` is made of, beside INFO."""

_API = {"apiVersion": "subresources.kubevirt.io/v1"}


def agent_info(info: JsonObject, answers: JsonObject) -> JsonObject:
    """A VirtualMachineInstanceGuestAgentInfo: `info` is the answer to INFO, `answers` are those to COMMANDS as far as there are any."""
    zone = answers.get(TIMEZONE) or {}
    found: JsonObject = {
        "guestAgentVersion": info.get("version"),
        "supportedCommands": [
            {"name": each["name"], "enabled": bool(each.get("enabled"))} for each in info.get("supported_commands") or []
        ],
        "hostname": (answers.get(HOST_NAME) or {}).get("host-name"),
        "os": _operating_system(answers.get(OS) or {}),
        "timezone": f"{zone['zone']}, {zone['offset']}" if "zone" in zone and "offset" in zone else None,
        "userList": _users(answers.get(USERS) or ()),
        "fsInfo": {"disks": _file_systems(answers.get(FILE_SYSTEMS) or ())},
        "fsFreezeStatus": "frozen" if answers.get(FREEZE_STATUS) == "frozen" else None,
    }
    kept = {name: value for name, value in found.items() if value is not None}
    return {**_API, "kind": "VirtualMachineInstanceGuestAgentInfo", **kept}


def user_list(users: Iterable[JsonObject]) -> JsonObject:
    """A VirtualMachineInstanceGuestOSUserList from the answer to USERS."""
    return {**_API, "kind": "VirtualMachineInstanceGuestOSUserList", "metadata": {}, "items": _users(users)}


def filesystem_list(file_systems: Iterable[JsonObject]) -> JsonObject:
    """A VirtualMachineInstanceFileSystemList from the answer to FILE_SYSTEMS."""
    return {**_API, "kind": "VirtualMachineInstanceFileSystemList", "metadata": {}, "items": _file_systems(file_systems)}


def _operating_system(answer: JsonObject) -> JsonObject:
    names = {
        "name": "name",
        "kernelRelease": "kernel-release",
        "version": "version",
        "prettyName": "pretty-name",
        "versionId": "version-id",
        "kernelVersion": "kernel-version",
        "machine": "machine",
        "id": "id",
    }
    return {ours: answer[theirs] for ours, theirs in names.items() if answer.get(theirs)}


def _users(users: Iterable[JsonObject]) -> list[JsonObject]:
    found = []
    for user in users:
        item: dict[str, Any] = {"userName": user["user"]}
        if user.get("domain"):
            item["domain"] = user["domain"]
        if user.get("login-time"):
            item["loginTime"] = user["login-time"]
        found.append(item)
    return found


def _file_systems(file_systems: Iterable[JsonObject]) -> list[JsonObject]:
    found = []
    for each in file_systems:
        item: JsonObject = {
            "diskName": each["name"],
            "mountPoint": each["mountpoint"],
            "fileSystemType": each["type"],
            "usedBytes": each.get("used-bytes", 0),
            "totalBytes": each.get("total-bytes", 0),
        }
        if disks := each.get("disk"):
            item["disk"] = [{"busType": disk["bus-type"], **({"serial": disk["serial"]} if disk.get("serial") else {})} for disk in disks]
        found.append(item)
    return found
