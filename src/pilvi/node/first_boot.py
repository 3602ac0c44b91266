"""Renders bootstrap data into the one shell script that a node runs at its first boot.

The same script serves a sandbox and a virtual machine, so no cloud-init is needed on the way to a Ready node. Order and
meaning of the steps are cloud-init's, except that users are made before files, so that any of them can own a file.
"""

import base64
import shlex
from typing import Any

import msgspec
import yaml

from pilvi.errors import UserError
from pilvi.node.cloud_config import CloudConfig, Command, User, WriteFile

JOIN_CONFIGURATION = "/run/kubeadm/kubeadm-join-config.yaml"


def render_first_boot(config: CloudConfig, ignored_preflight_errors: tuple[str, ...] = ()) -> bytes:
    """The script for `config`; its exit code is that of the last command, as in cloud-init.

    `ignored_preflight_errors` are added to kubeadm's JoinConfiguration, the file by which Cluster API calls `kubeadm join`: its
    command line is not ours, and the file says the same thing. Raises UserError when that file cannot be read.
    """
    if config.script is not None:
        return config.script
    files = tuple(_with_ignored_errors(file, ignored_preflight_errors) for file in config.files)
    sections = [
        '#!/bin/sh\n# Made from the machine\'s bootstrap data; runs once.\nfailed() { echo "first boot: $1 failed" >&2; }\n',
        _render_commands("bootcmd", config.boot_commands),
        _render_hostname(config.hostname),
        *(_render_user(user) for user in config.users),
        *(_render_file(file) for file in files),
        *(_render_mount(mount) for mount in config.mounts),
        _render_commands("runcmd", config.commands),
    ]
    return "\n".join(section for section in sections if section).encode()


def _render_commands(name: str, commands: tuple[Command, ...]) -> str:
    """One shell for all commands of a list, as in cloud-init: a failed one does not stop the next, `cd` lasts."""
    if not commands:
        return ""
    lines = "\n".join(command if isinstance(command, str) else shlex.join(command) for command in commands)
    return f"# {name}\n{_decoded(lines.encode())} > /run/first-boot-{name}\n/bin/sh /run/first-boot-{name}\n"


def _render_hostname(hostname: str) -> str:
    if not hostname:
        return ""
    name = shlex.quote(hostname)
    return f"# hostname\nhostname {name} && echo {name} > /etc/hostname || failed hostname\n"


def _render_user(user: User) -> str:
    options = ["--create-home"]
    for option, value in (
        ("--comment", user.gecos),
        ("--home-dir", user.home),
        ("--shell", user.shell or "/bin/bash"),
        ("--gid", user.primary_group),
        ("--groups", ",".join(user.groups)),
        ("--password", user.password_hash),
        ("--inactive", user.inactive),
    ):
        if value:
            options += [option, value]
    name = shlex.quote(user.name)
    lines = [f"# user {user.name}"]
    lines += [
        f"getent group {shlex.quote(group)} > /dev/null || groupadd {shlex.quote(group)}"
        for group in (user.primary_group, *user.groups)
        if group
    ]
    lines += [f"id {name} > /dev/null 2>&1 || useradd {shlex.join([*options, user.name])} || failed {name}"]
    if user.lock_password:
        lines += [f"passwd --quiet --lock {name}"]
    if user.sudo:
        rules = "".join(f"{user.name} {rule}\n" for rule in user.sudo)
        lines += [
            "mkdir -p /etc/sudoers.d",
            f"{_decoded(rules.encode())} > /etc/sudoers.d/90-{user.name}",
            f"chmod 0440 /etc/sudoers.d/90-{user.name}",
        ]
    if user.ssh_keys:
        keys = "".join(f"{key}\n" for key in user.ssh_keys)
        lines += [
            f"home=$(getent passwd {name} | cut -d : -f 6)",
            'mkdir -p "$home/.ssh" && chmod 0700 "$home/.ssh"',
            f'{_decoded(keys.encode())} > "$home/.ssh/authorized_keys"',
            f'chmod 0600 "$home/.ssh/authorized_keys" && chown -R {name}: "$home/.ssh"',
        ]
    return "\n".join(lines) + "\n"


def _render_file(file: WriteFile) -> str:
    path = shlex.quote(file.path)
    folder = shlex.quote(file.path.rpartition("/")[0] or "/")
    redirect = ">>" if file.append else ">"
    # Made empty with its mode first: a secret is at no moment readable to others.
    create = "" if file.append else f"rm -f {path}; "
    return (
        f"# {file.path}\n"
        f"mkdir -p {folder} && {create}(umask 077; {_decoded(file.content)} {redirect} {path})"
        f" && chown {shlex.quote(file.owner)} {path} && chmod {file.mode:04o} {path} || failed {path}\n"
    )


def _render_mount(mount: tuple[str, ...]) -> str:
    defaults = ("auto", "defaults,nofail", "0", "2")
    fields = (*mount, *defaults[len(mount) - 2 :])
    device, point = shlex.quote(fields[0]), shlex.quote(fields[1])
    line = "\t".join(field.replace(" ", "\\040") for field in fields)
    return (
        f"# mount {fields[1]}\nmkdir -p {point} && printf '%s\\n' {shlex.quote(line)} >> /etc/fstab && mount {point} || failed {device}\n"
    )


def _decoded(content: bytes) -> str:
    """A command that prints `content`, whatever is in it."""
    return f"echo {base64.b64encode(content).decode()} | base64 -d"


def _with_ignored_errors(file: WriteFile, ignored: tuple[str, ...]) -> WriteFile:
    if file.path != JOIN_CONFIGURATION or not ignored:
        return file
    try:
        documents: list[Any] = [document for document in yaml.safe_load_all(file.content) if document is not None]
    except yaml.YAMLError as e:
        raise UserError(f"{JOIN_CONFIGURATION} in the bootstrap data is not valid YAML") from e
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "JoinConfiguration":
            registration = document.setdefault("nodeRegistration", {})
            wanted = registration.get("ignorePreflightErrors") or []
            registration["ignorePreflightErrors"] = (
                wanted if "all" in wanted else [*wanted, *(name for name in ignored if name not in wanted)]
            )
    return msgspec.structs.replace(file, content=yaml.safe_dump_all(documents, sort_keys=False).encode())
