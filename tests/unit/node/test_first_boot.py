"""The first-boot script: its parts really run, in a folder instead of the root."""

import os
import subprocess
from pathlib import Path

import yaml

from pilvi.node.cloud_config import CloudConfig, User, WriteFile
from pilvi.node.first_boot import JOIN_CONFIGURATION, render_first_boot


def run_script(script: bytes) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh"], input=script.decode(), capture_output=True, text=True, timeout=20, check=False)


def test_files_get_content_mode_and_folder(tmp_path: Path) -> None:
    odd = "a 'quoted' $name"
    content = b"\x00\xff line\n$HOME `id` 'x'\n"
    owner = f"{os.getuid()}:{os.getgid()}"
    config = CloudConfig(
        files=(
            WriteFile(path=f"{tmp_path}/deep/{odd}", content=content, owner=owner, mode=0o640),
            WriteFile(path=f"{tmp_path}/log", content=b"one\n", owner=owner),
            WriteFile(path=f"{tmp_path}/log", content=b"two\n", owner=owner, append=True),
        )
    )
    done = run_script(render_first_boot(config))
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "deep" / odd).read_bytes() == content
    assert (tmp_path / "deep" / odd).stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_a_file_that_cannot_be_written_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    owner = f"{os.getuid()}:{os.getgid()}"
    config = CloudConfig(
        files=(WriteFile(path=f"{tmp_path}/file/below", content=b""), WriteFile(path=f"{tmp_path}/other", content=b"x", owner=owner))
    )
    done = run_script(render_first_boot(config))
    assert f"first boot: {tmp_path}/file/below failed" in done.stderr
    assert (tmp_path / "other").exists()


def test_commands_share_a_shell_and_the_last_exit_code_counts(tmp_path: Path) -> None:
    script = render_first_boot(CloudConfig(commands=(f"cd {tmp_path}", "false", ("touch", "a b"), "exit 7"))).decode()
    local = script.replace("/run/first-boot-runcmd", f"{tmp_path}/script")
    done = run_script(local.encode())
    assert done.returncode == 7
    assert (tmp_path / "a b").exists()


def test_ignored_checks_go_into_the_join_configuration_only() -> None:
    join = b"---\nkind: JoinConfiguration\nnodeRegistration:\n  name: m1\n  ignorePreflightErrors: [Swap]\n"
    config = CloudConfig(files=(WriteFile(path=JOIN_CONFIGURATION, content=join, mode=0o640), WriteFile(path="/etc/x", content=join)))
    files = _written(render_first_boot(config, ("SystemVerification", "Swap")))
    document = yaml.safe_load(files[JOIN_CONFIGURATION])
    assert document["nodeRegistration"] == {"name": "m1", "ignorePreflightErrors": ["Swap", "SystemVerification"]}
    assert files["/etc/x"] == join


def test_join_configuration_without_registration_and_with_all() -> None:
    bare = CloudConfig(files=(WriteFile(path=JOIN_CONFIGURATION, content=b"kind: JoinConfiguration\n"),))
    assert yaml.safe_load(_written(render_first_boot(bare, ("A",)))[JOIN_CONFIGURATION])["nodeRegistration"] == {
        "ignorePreflightErrors": ["A"]
    }
    every = CloudConfig(
        files=(WriteFile(path=JOIN_CONFIGURATION, content=b"kind: JoinConfiguration\nnodeRegistration: {ignorePreflightErrors: [all]}\n"),)
    )
    assert yaml.safe_load(_written(render_first_boot(every, ("A",)))[JOIN_CONFIGURATION])["nodeRegistration"] == {
        "ignorePreflightErrors": ["all"]
    }


def test_whole_script_is_valid_shell_in_cloud_inits_order() -> None:
    config = CloudConfig(
        boot_commands=("true",),
        hostname="m1",
        users=(User(name="capk", groups=("adm",), sudo=("ALL=(ALL) ALL",), ssh_keys=("ssh-ed25519 A'A",), password_hash="$6$x"),),
        files=(WriteFile(path="/etc/x", content=b""),),
        mounts=(("tmpfs", "/mnt/a b", "tmpfs"),),
        commands=("true",),
    )
    script = render_first_boot(config)
    checked = subprocess.run(["/bin/sh", "-n"], input=script, capture_output=True, timeout=20, check=False)
    assert checked.stderr == b""
    order = [script.index(part) for part in (b"# bootcmd", b"# hostname", b"# user capk", b"# /etc/x", b"# mount", b"# runcmd")]
    assert order == sorted(order)


def test_script_of_the_user_is_not_changed() -> None:
    assert render_first_boot(CloudConfig(script=b"#!/bin/sh\nexit 3\n"), ("A",)) == b"#!/bin/sh\nexit 3\n"


def _written(script: bytes) -> dict[str, bytes]:
    """Path -> content that the script writes, read back by decoding what it echoes."""
    files = {}
    name = ""
    for line in script.decode().splitlines():
        if line.startswith("# /"):
            name = line.removeprefix("# ")
        elif name and "echo " in line:
            encoded = line.split("echo ")[1].split(" |")[0]
            files[name] = subprocess.run(["base64", "-d"], input=encoded.encode(), capture_output=True, timeout=20, check=True).stdout
    return files
