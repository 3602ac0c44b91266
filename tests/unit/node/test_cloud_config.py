"""Bootstrap data: what Cluster API writes is understood, anything else is refused by name."""

import base64
import gzip
import json

import pytest

from pilvi.errors import UserError
from pilvi.node.cloud_config import CloudConfig, parse_user_data

META = {"instance_id": "m1.default", "local-hostname": "m1"}


def parse(body: str) -> CloudConfig:
    return parse_user_data(("#cloud-config\n" + body).encode(), META)


def test_jinja_values_are_filled_in() -> None:
    lines = (
        "## template: jinja",
        "#cloud-config",
        "hostname: '{{ ds.meta_data.local_hostname }}'",
        "runcmd: ['echo {{ v1.instance_id }} {{ local_hostname }}']",
    )
    config = parse_user_data("\n".join(lines).encode(), META)
    assert config.hostname == "m1"
    assert config.commands == ("echo m1.default m1",)


def test_without_the_header_braces_are_text() -> None:
    assert parse("runcmd: ['echo {{ x }}']").commands == ("echo {{ x }}",)


def test_unknown_jinja_value_is_named() -> None:
    with pytest.raises(UserError, match="availability_zone") as caught:
        parse_user_data(b"## template: jinja\n#cloud-config\nhostname: '{{ ds.meta_data.availability_zone }}'\n", META)
    assert "ds.meta_data.local_hostname" in str(caught.value.hint)


def test_jinja_cannot_reach_python() -> None:
    with pytest.raises(UserError):
        parse_user_data(b"## template: jinja\n#cloud-config\nhostname: '{{ ds.__class__.__mro__ }}'\n", META)


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("", "data\n"),
        ("base64", base64.b64encode(b"data\n").decode()),
        ("b64", base64.b64encode(b"data\n").decode()),
        ("gzip+base64", base64.b64encode(gzip.compress(b"data\n")).decode()),
        ("gz+b64", base64.b64encode(gzip.compress(b"data\n")).decode()),
    ],
)
def test_file_encodings(encoding: str, content: str) -> None:
    fields = f"path: /a, encoding: '{encoding}', owner: 'root:adm', permissions: '0640', append: true"
    (file,) = parse(f"write_files: [{{{fields}, content: {json.dumps(content)}}}]").files
    assert file.content == b"data\n"
    assert (file.path, file.owner, file.mode, file.append) == ("/a", "root:adm", 0o640, True)


def test_unquoted_permissions_are_octal_as_in_yaml() -> None:
    assert parse("write_files: [{path: /a, permissions: 0640}]").files[0].mode == 0o640


def test_commands_as_text_and_as_words() -> None:
    config = parse("bootcmd: [[echo, 1]]\nruncmd: ['a && b', [sh, -c, 'x y']]")
    assert config.boot_commands == (("echo", "1"),)
    assert config.commands == ("a && b", ("sh", "-c", "x y"))


def test_users_with_keys() -> None:
    config = parse(
        "users:\n- default\n- name: capk\n  gecos: CAPK User\n  sudo: ALL=(ALL) NOPASSWD:ALL\n"
        "  groups: users, admin\n  ssh_authorized_keys: [ssh-ed25519 AAA]\n"
    )
    (user,) = config.users
    assert (user.name, user.groups, user.sudo, user.ssh_keys) == (
        "capk",
        ("users", "admin"),
        ("ALL=(ALL) NOPASSWD:ALL",),
        ("ssh-ed25519 AAA",),
    )


def test_ntp_is_accepted_and_says_that_it_has_no_effect() -> None:
    config = parse("ntp: {enabled: true, servers: [a]}")
    assert len(config.notes) == 1
    assert "ntp" in config.notes[0]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("packages: [nginx]", "packages"),
        ("disk_setup: {}", "disk_setup"),
        ("fs_setup: []", "fs_setup"),
        ("write_files: [{path: /a, source: {uri: x}}]", r"write_files\[0\]\.source"),
        ("write_files: [{path: a}]", r"write_files\[0\]\.path"),
        ("write_files: [{path: /a, encoding: rot13, content: x}]", r"write_files\[0\]\.encoding"),
        ("write_files: [{path: /a, encoding: gzip, content: x}]", r"write_files\[0\]\.content"),
        ("write_files: [{path: /a, permissions: rw}]", r"write_files\[0\]\.permissions"),
        ("users: [{name: a, uid: 7}]", r"users\[0\]\.uid"),
        ("users: [{name: 'a b'}]", r"users\[0\]\.name"),
        ("runcmd: [{a: b}]", r"runcmd\[0\]"),
        ("runcmd: x", "runcmd"),
        ("mounts: [[a]]", r"mounts\[0\]"),
        ("hostname: 'a b'", "hostname"),
        ("a: [", "YAML"),
        ("- a", "mapping"),
    ],
)
def test_what_is_not_understood_is_named(body: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        parse(body)


def test_empty_sections_are_nothing() -> None:
    assert parse("runcmd:\nusers:\n") == CloudConfig()


def test_script_is_taken_as_it_is() -> None:
    assert parse_user_data(b"#!/bin/sh\necho {{ x }}\n", META).script == b"#!/bin/sh\necho {{ x }}\n"


@pytest.mark.parametrize("data", [b'{"ignition": {}}', b"Content-Type: multipart/mixed\n", b"\x1f\x8b\x08", b""])
def test_other_formats_are_refused(data: bytes) -> None:
    with pytest.raises(UserError):
        parse_user_data(data, META)
