"""Reads bootstrap data: the part of cloud-init's formats that Cluster API's kubeadm bootstrap writes, strictly.

Whatever is not known is refused by name; nothing is skipped silently. The meaning of each key is cloud-init's.
"""

import base64
import binascii
import gzip
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import jinja2.exceptions
import jinja2.sandbox
import msgspec
import yaml

from pilvi.errors import UserError

JINJA_HEADER = "## template: jinja"
CLOUD_CONFIG_HEADER = "#cloud-config"

Command = str | tuple[str, ...]


class WriteFile(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `write_files` with its content decoded."""

    path: str
    content: bytes
    owner: str = "root:root"
    mode: int = 0o644
    append: bool = False


class User(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of `users`. `password_hash` is in the form of /etc/shadow."""

    name: str
    gecos: str = ""
    home: str = ""
    shell: str = ""
    primary_group: str = ""
    groups: tuple[str, ...] = ()
    password_hash: str = ""
    lock_password: bool = True
    inactive: str = ""
    sudo: tuple[str, ...] = ()
    ssh_keys: tuple[str, ...] = ()


class CloudConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the machine is to do at its first boot, in cloud-init's order. `notes` name what has no effect here."""

    boot_commands: tuple[Command, ...] = ()
    hostname: str = ""
    users: tuple[User, ...] = ()
    files: tuple[WriteFile, ...] = ()
    mounts: tuple[tuple[str, ...], ...] = ()
    commands: tuple[Command, ...] = ()
    script: bytes | None = None
    notes: tuple[str, ...] = ()


def parse_user_data(user_data: bytes, meta_data: Mapping[str, str]) -> CloudConfig:
    """Bootstrap data as a value: a cloud-config, with or without jinja header, or a `#!` script.

    `meta_data` are the values of `{{ ds.meta_data.* }}`. Raises UserError, naming the key, when something is malformed or not
    supported.
    """
    if user_data.startswith(b"#!"):
        return CloudConfig(script=user_data)
    try:
        text = user_data.decode()
    except UnicodeDecodeError as e:
        raise UserError("bootstrap data is not text", hint="give a #cloud-config document or a #! script, not compressed") from e
    header, _, rest = text.partition("\n")
    if header.strip() == JINJA_HEADER:
        text = _render_jinja(rest, meta_data)
        header = text.partition("\n")[0]
    if header.strip() != CLOUD_CONFIG_HEADER:
        raise UserError(
            f"bootstrap data starts with {header[:40]!r}, which the node image does not understand",
            hint="give a #cloud-config document (format: cloud-config) or a #! script",
        )
    return _parse_cloud_config(_load_yaml(text))


def _render_jinja(text: str, meta_data: Mapping[str, str]) -> str:
    """As cloud-init: the data source's own values below `ds`, the common ones below `v1` and at the top."""
    values = {name.replace("-", "_"): value for name, value in meta_data.items()}
    common = {name: values[name] for name in ("instance_id", "local_hostname") if name in values}
    environment = jinja2.sandbox.SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    try:
        return environment.from_string(text).render(ds={"meta_data": values}, v1=common, **common)
    except jinja2.UndefinedError as e:
        known = ", ".join(f"ds.meta_data.{name}" for name in sorted(values))
        raise UserError(f"bootstrap data uses a value that this machine does not have: {e.message}", hint=f"there are: {known}") from e
    except (jinja2.TemplateError, jinja2.exceptions.SecurityError) as e:
        raise UserError(f"bootstrap data is not a valid jinja template: {e}") from e


def _load_yaml(text: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise UserError(f"cloud-config is not valid YAML: {e}") from e
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError("cloud-config is not a mapping of keys")
    return content


def _parse_cloud_config(content: dict[str, Any]) -> CloudConfig:
    fields: dict[str, Any] = {}
    notes: list[str] = []
    for key, value in content.items():
        if key in _WITHOUT_EFFECT:
            notes.append(f"cloud-config key {key} has no effect: {_WITHOUT_EFFECT[key]}")
        elif key not in _KEYS:
            raise UserError(
                f"cloud-config key {key} is not supported by the node image",
                hint=f"use {', '.join(sorted(_KEYS))}, or do it in a command of runcmd",
            )
        elif value is not None:
            field, parse = _KEYS[key]
            fields[field] = parse(key, value)
    return CloudConfig(**fields, notes=tuple(notes))


def _commands(key: str, value: Any) -> tuple[Command, ...]:
    commands: list[Command] = []
    for index, entry in enumerate(_list(key, value)):
        if isinstance(entry, str):
            commands.append(entry)
        elif isinstance(entry, list) and entry and all(isinstance(word, str | int | float) for word in entry):
            commands.append(tuple(str(word) for word in entry))
        else:
            raise UserError(f"cloud-config {key}[{index}] is neither a string nor a list of words")
    return tuple(commands)


def _files(key: str, value: Any) -> tuple[WriteFile, ...]:
    return tuple(_file(f"{key}[{index}]", entry) for index, entry in enumerate(_list(key, value)))


def _file(where: str, entry: Any) -> WriteFile:
    # `defer` only orders a file after the users; users come first here in any case.
    _check_keys(where, entry, {"path", "content", "encoding", "owner", "permissions", "append", "defer"})
    path = entry.get("path")
    if not isinstance(path, str) or not path.startswith("/"):
        raise UserError(f"cloud-config {where}.path is {path!r}; it must be an absolute path")
    return WriteFile(
        path=path,
        content=_decode(where, entry.get("content", ""), str(entry.get("encoding") or "text/plain")),
        owner=str(entry.get("owner") or "root:root"),
        mode=_mode(where, entry.get("permissions")),
        append=bool(entry.get("append", False)),
    )


def _decode(where: str, content: Any, encoding: str) -> bytes:
    steps = [_ENCODINGS.get(step) for step in reversed(encoding.lower().split("+"))]
    data = content if isinstance(content, bytes) else str("" if content is None else content).encode()
    for step in steps:
        if step is None:
            raise UserError(f"cloud-config {where}.encoding is {encoding!r}; known are text/plain, base64, gzip and gzip+base64")
        try:
            data = step(data)
        except (binascii.Error, OSError, EOFError, zlib.error) as e:
            raise UserError(f"cloud-config {where}.content is not {encoding}") from e
    return data


def _mode(where: str, value: Any) -> int:
    if value is None or value == "":
        return 0o644
    # Unquoted 0640 is already an octal number to YAML; in quotes it is text.
    mode = int(value, 8) if isinstance(value, str) and re.fullmatch(r"(0o)?[0-7]{1,5}", value) else value
    if not isinstance(mode, int) or isinstance(mode, bool) or not 0 <= mode <= 0o7777:
        raise UserError(f"cloud-config {where}.permissions is {value!r}; write an octal number in quotes, such as '0640'")
    return mode


def _users(key: str, value: Any) -> tuple[User, ...]:
    # The entry "default" asks for the distribution's user; the node image has none beside root.
    entries = [entry for entry in _list(key, value) if entry != "default"]
    return tuple(_user(f"{key}[{index}]", entry) for index, entry in enumerate(entries))


def _user(where: str, entry: Any) -> User:
    known = {
        "name",
        "gecos",
        "homedir",
        "shell",
        "primary_group",
        "groups",
        "passwd",
        "lock_passwd",
        "inactive",
        "sudo",
        "ssh_authorized_keys",
    }
    _check_keys(where, entry, known)
    name = entry.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", name):
        raise UserError(f"cloud-config {where}.name is {name!r}; it must be a user name of lower-case letters, digits, - and _")
    return User(
        name=name,
        gecos=str(entry.get("gecos") or ""),
        home=str(entry.get("homedir") or ""),
        shell=str(entry.get("shell") or ""),
        primary_group=str(entry.get("primary_group") or ""),
        groups=_words(entry.get("groups")),
        password_hash=str(entry.get("passwd") or ""),
        lock_password=bool(entry.get("lock_passwd", True)),
        inactive=str(entry.get("inactive") or ""),
        sudo=_lines(entry.get("sudo")),
        ssh_keys=_lines(entry.get("ssh_authorized_keys")),
    )


def _mounts(key: str, value: Any) -> tuple[tuple[str, ...], ...]:
    mounts = []
    for index, entry in enumerate(_list(key, value)):
        if not isinstance(entry, list) or not 2 <= len(entry) <= 6:
            raise UserError(f"cloud-config {key}[{index}] must be a list: device, mount point, then type, options, dump and pass")
        mounts.append(tuple(str(field) for field in entry))
    return tuple(mounts)


def _hostname(key: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", value):
        raise UserError(f"cloud-config {key} is {value!r}; it must be a host name")
    return value


def _words(value: Any) -> tuple[str, ...]:
    return tuple(str(word).strip() for word in (value.split(",") if isinstance(value, str) else value or ()))


def _lines(value: Any) -> tuple[str, ...]:
    if value is None or value is False:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(line) for line in value)


def _list(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"cloud-config {key} must be a list")
    return value


def _check_keys(where: str, entry: Any, known: set[str]) -> None:
    if not isinstance(entry, dict):
        raise UserError(f"cloud-config {where} must be a mapping")
    if unknown := sorted(set(entry) - known):
        raise UserError(
            f"cloud-config {where}.{unknown[0]} is not supported by the node image", hint=f"known are: {', '.join(sorted(known))}"
        )


def _gunzip(data: bytes) -> bytes:
    return gzip.decompress(data)


def _unbase64(data: bytes) -> bytes:
    return base64.b64decode(b"".join(data.split()), validate=True)


def _plain(data: bytes) -> bytes:
    return data


_ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "text/plain": _plain,
    "gz": _gunzip,
    "gzip": _gunzip,
    "b64": _unbase64,
    "base64": _unbase64,
}

_KEYS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "bootcmd": ("boot_commands", _commands),
    "hostname": ("hostname", _hostname),
    "users": ("users", _users),
    "write_files": ("files", _files),
    "mounts": ("mounts", _mounts),
    "runcmd": ("commands", _commands),
}

_WITHOUT_EFFECT = {"ntp": "the machine has the clock of its host"}
