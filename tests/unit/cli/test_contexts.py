"""Contexts in the user's kubeconfig: nothing of anybody else is ever lost."""

from __future__ import annotations

import base64
import os
import threading
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilvi.cli import contexts
from pilvi.errors import UserError, format_chain
from pilvi.host.cloud import DEFAULT_HOME, Cloud

OURS, OTHERS = b"our authority", b"their authority"


def make_cloud(home: Path = DEFAULT_HOME, id: str = "abcde") -> Cloud:
    return Cloud(
        id=id,
        home=home,
        run=Path("/run/none"),
        range=IPv4Network("10.250.7.0/24"),
        transit=IPv4Network("100.64.0.0/22"),
        uid_base=1,
        uid_count=1,
    )


def kubeconfig(authority: bytes = OURS, server: str = "https://10.250.7.2:6443", name: str = "pilvi") -> bytes:
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(authority).decode()}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": "secret"}}],
            "contexts": [{"name": "it", "context": {"cluster": name, "user": "admin", "namespace": "default"}}],
            "current-context": "it",
        }
    ).encode()


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def names(path: Path) -> list[str]:
    return [entry["name"] for entry in read(path)["contexts"]]


def test_the_first_merge_makes_the_file_private(user: Path) -> None:
    assert contexts.merge(make_cloud(), kubeconfig()) == "pilvi"
    document = read(user)
    assert document["current-context"] == "pilvi"
    assert document["contexts"][0]["context"] == {"cluster": "pilvi", "user": "pilvi", "namespace": "default"}
    assert user.stat().st_mode & 0o777 == 0o600
    assert not user.with_name("kubeconfig.lock").exists()


def test_a_second_merge_replaces_the_first(user: Path) -> None:
    contexts.merge(make_cloud(), kubeconfig())
    contexts.merge(make_cloud(), kubeconfig(server="https://10.250.7.9:6443"))
    document = read(user)
    assert [entry["cluster"]["server"] for entry in document["clusters"]] == ["https://10.250.7.9:6443"]
    assert len(document["users"]) == len(document["contexts"]) == 1


def test_clusters_get_names_of_their_own_and_may_leave_the_current_context(user: Path) -> None:
    contexts.merge(make_cloud(), kubeconfig())
    assert contexts.merge(make_cloud(), kubeconfig(b"tenant"), "team/first", make_current=False) == "pilvi/team/first"
    assert read(user)["current-context"] == "pilvi"


def test_another_home_has_its_id_in_the_name(tmp_path: Path) -> None:
    cloud = make_cloud(tmp_path, "zzzzz")
    assert contexts.merge(cloud, kubeconfig()) == "pilvi-zzzzz"
    assert contexts.merge(cloud, kubeconfig(b"tenant"), "default/first") == "pilvi-zzzzz/default/first"


def test_what_others_have_stays_as_it_is(user: Path) -> None:
    theirs = yaml.safe_load(kubeconfig(OTHERS, "https://example.com", "work"))
    theirs["contexts"][0]["name"] = "work"
    theirs["preferences"] = {"colors": True}
    user.write_text(yaml.safe_dump(theirs))
    contexts.merge(make_cloud(), kubeconfig())
    assert contexts.remove("abcde", {OURS}) == ["pilvi"]
    after = read(user)
    assert {key: value for key, value in after.items() if key != "current-context"} == {
        key: value for key, value in theirs.items() if key != "current-context"
    }


def test_a_name_that_somebody_else_has_is_left_to_them(user: Path) -> None:
    theirs = yaml.safe_load(kubeconfig(OTHERS, "https://example.com"))
    theirs["contexts"][0]["name"] = "pilvi"
    user.write_text(yaml.safe_dump(theirs))
    assert contexts.merge(make_cloud(), kubeconfig()) == "pilvi-abcde"
    assert names(user) == ["pilvi", "pilvi-abcde"]
    assert contexts.remove("abcde", {OURS}) == ["pilvi-abcde"]
    assert names(user) == ["pilvi"]


def test_a_name_that_only_a_user_entry_has_is_left_to_them(user: Path) -> None:
    user.write_text(yaml.safe_dump({"kind": "Config", "users": [{"name": "pilvi", "user": {"token": "theirs"}}]}))
    assert contexts.merge(make_cloud(), kubeconfig()) == "pilvi-abcde"
    assert read(user)["users"][0] == {"name": "pilvi", "user": {"token": "theirs"}}


def test_clusters_that_are_gone_are_known_by_the_mark(user: Path) -> None:
    contexts.merge(make_cloud(), kubeconfig())
    contexts.merge(make_cloud(), kubeconfig(b"a tenant whose files are gone"), "default/first")
    assert sorted(contexts.remove("abcde", {OURS})) == ["pilvi", "pilvi/default/first"]
    assert read(user)["current-context"] == ""


def test_an_entry_that_got_another_authority_is_not_ours_any_more(user: Path) -> None:
    contexts.merge(make_cloud(), kubeconfig())
    document = read(user)
    document["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(OTHERS).decode()
    user.write_text(yaml.safe_dump(document))
    assert contexts.remove("abcde", {OURS}) == []
    assert contexts.remove("other", {b""}) == []
    assert names(user) == ["pilvi"]


def test_a_user_entry_that_another_context_uses_stays(user: Path) -> None:
    contexts.merge(make_cloud(), kubeconfig())
    document = read(user)
    document["contexts"].append({"name": "mine", "context": {"cluster": "elsewhere", "user": "pilvi"}})
    user.write_text(yaml.safe_dump(document))
    contexts.remove("abcde", {OURS})
    assert [entry["name"] for entry in read(user)["users"]] == ["pilvi"]


def test_removing_from_a_file_without_ours_writes_nothing(user: Path) -> None:
    assert contexts.remove("abcde", {OURS}) == []
    assert not user.exists()
    user.write_bytes(kubeconfig(OTHERS))
    before = user.stat().st_mtime_ns
    contexts.remove("abcde", {OURS})
    assert user.stat().st_mtime_ns == before


@pytest.mark.parametrize("content", ["{", "[1, 2]", "kind: Pod"])
def test_a_file_that_is_no_kubeconfig_is_left_alone(content: str, user: Path) -> None:
    user.write_text(content)
    with pytest.raises(UserError):
        contexts.merge(make_cloud(), kubeconfig())
    assert user.read_text() == content
    assert not user.with_name("kubeconfig.lock").exists()


def test_owner_mode_and_link_are_kept(user: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "config"
    real.parent.mkdir()
    real.write_bytes(kubeconfig(OTHERS))
    real.chmod(0o640)
    if os.getuid() == 0:
        os.chown(real, 1234, 1235)
    user.symlink_to(real)
    contexts.merge(make_cloud(), kubeconfig())
    assert user.is_symlink()
    stat = real.stat()
    assert stat.st_mode & 0o777 == 0o640
    assert os.getuid() != 0 or (stat.st_uid, stat.st_gid) == (1234, 1235)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away, as sudo does")
def test_under_sudo_the_file_is_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    home = tmp_path / "homes" / "anna"
    home.mkdir(parents=True)
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("SUDO_UID", "4321")
    monkeypatch.setenv("SUDO_GID", "4322")
    entry = pwd.struct_passwd(("anna", "x", 4321, 4322, "", str(home), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {4321: entry}[uid])
    contexts.merge(make_cloud(), kubeconfig())
    for path in (home / ".kube", home / ".kube" / "config"):
        assert (path.stat().st_uid, path.stat().st_gid) == (4321, 4322), path


def test_of_several_files_the_first_that_exists_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")
    contexts.merge(make_cloud(), kubeconfig())
    assert not first.exists()
    first.write_bytes(kubeconfig(OTHERS, "https://example.com", "work"))
    contexts.merge(make_cloud(), kubeconfig())
    assert "pilvi" in names(first)


def test_two_writers_at_once_lose_nothing(user: Path) -> None:
    clouds = [make_cloud(Path("/somewhere"), f"abcd{n}") for n in range(8)]
    threads = [threading.Thread(target=contexts.merge, args=(cloud, kubeconfig(cloud.id.encode()))) for cloud in clouds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names(user)) == [f"pilvi-abcd{n}" for n in range(8)]


def test_a_file_that_cannot_be_written_is_named_and_no_temporary_one(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path.with_name(".kubeconfig.tmp123")))

    monkeypatch.setattr(contexts, "write_atomic", fail)
    with pytest.raises(UserError) as raised:
        contexts.merge(make_cloud(), kubeconfig())
    assert format_chain(raised.value) == f"{user} cannot be written: Permission denied; name another file in $KUBECONFIG"


def test_a_lock_that_nobody_lets_go_is_named(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "_LOCK_TIMEOUT_S", 0.1)
    lock = user.with_name("kubeconfig.lock")
    lock.touch()
    with pytest.raises(UserError) as raised:
        contexts.merge(make_cloud(), kubeconfig())
    assert str(lock) in str(raised.value.hint)
    assert lock.exists()
    assert not user.exists()


def test_the_platform_is_found_by_its_address_whatever_its_name(user: Path, tmp_path: Path) -> None:
    contexts.merge(make_cloud(tmp_path, "zzzzz"), kubeconfig(b"other cloud", "https://10.250.8.2:6443"))
    contexts.merge(make_cloud(), kubeconfig())
    found = contexts.find_platform(make_cloud())
    assert found is not None
    document = yaml.safe_load(found)
    assert document["clusters"][0]["cluster"]["server"] == "https://10.250.7.2:6443"
    assert document["users"][0]["user"] == {"token": "secret"}


def test_without_a_cloud_here_the_context_pilvi_and_never_the_current_one(user: Path) -> None:
    assert contexts.find_platform(None) is None
    user.write_bytes(kubeconfig(OTHERS, "https://example.com", "work"))
    assert contexts.find_platform(None) is None
    contexts.merge(make_cloud(), kubeconfig(), make_current=False)
    found = contexts.find_platform(None)
    assert found is not None
    assert yaml.safe_load(found)["current-context"] == "pilvi"


def test_files_that_a_kubeconfig_names_are_found_from_anywhere(user: Path) -> None:
    document = yaml.safe_load(kubeconfig())
    document["clusters"][0]["cluster"] = {"server": "https://10.250.7.2:6443", "certificate-authority": "pki/ca.crt"}
    user.write_text(yaml.safe_dump(document))
    found = contexts.find_platform(make_cloud())
    assert found is not None
    assert yaml.safe_load(found)["clusters"][0]["cluster"]["certificate-authority"] == str(user.parent / "pki/ca.crt")
