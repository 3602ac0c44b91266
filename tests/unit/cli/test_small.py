"""Progress, tables, logs, manifests, kinds, versions."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pilvi.api import Key
from pilvi.api.crds import all_crds
from pilvi.api.kubevirt import VirtualMachineInstance
from pilvi.cli import logs, manifests, progress
from pilvi.cli.output import print_documents, print_table
from pilvi.cli.progress import Waiting
from pilvi.errors import UserError, WrongUse, format_chain
from pilvi.host.cloud import save_cloud
from pilvi.lib.hashing import short_hash
from tests.fake_api import FakeApi
from tests.unit.cli.conftest import Invoke
from tests.unit.cli.test_contexts import make_cloud


def watch_stderr(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error that is only read: capsys empties what it reads, and loses what a thread writes at that moment."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(progress, "_FIRST_S", 0.0)
    monkeypatch.setattr(progress, "_LIVE_INTERVAL_S", 0.01)
    return written


def wait_for_line(stderr: io.StringIO) -> None:
    deadline = time.monotonic() + 5
    while not stderr.getvalue().endswith("\n") and time.monotonic() < deadline:
        time.sleep(0.005)


def test_without_a_terminal_there_are_plain_lines_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = watch_stderr(monkeypatch)
    with Waiting() as waiting:
        waiting.show("the moon")
        wait_for_line(stderr)
        waiting.show("the moon")
        waiting.done("moon", 1.25)
        waiting.hide()
    assert stderr.getvalue() == "  … the moon (0 s)\n  ✓ moon (1.2 s)\n"


def test_the_seconds_of_a_wait_whose_text_changes_count_from_its_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = watch_stderr(monkeypatch)
    waiting = Waiting()
    waiting.show("1 of 9", of="a build")
    waiting._started -= 30
    waiting.show("2 of 9", of="a build")
    with waiting:
        wait_for_line(stderr)
    assert stderr.getvalue() == "  … 2 of 9 (30 s)\n"


def test_what_is_over_at_once_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Waiting() as waiting:
        waiting.show("a short thing")
    assert capsys.readouterr().err == ""


def test_on_a_terminal_one_line_is_drawn_again_and_erased(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "_LIVE_INTERVAL_S", 0.01)
    with Waiting() as waiting:
        waiting.show("x" * 500)
        deadline = time.monotonic() + 5
        while terminal.getvalue().count("…") < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    written = terminal.getvalue()
    assert "\n" not in written
    assert written.endswith("\r\x1b[2K")
    assert max(map(len, written.split("\r\x1b[2K"))) < 200


def test_columns_are_as_wide_as_their_widest_cell(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "LONGER"), [("wide cell", "x"), ("", "")])
    assert capsys.readouterr().out == "A           LONGER\nwide cell   x\n\n"


def test_documents_can_be_applied_again(capsys: pytest.CaptureFixture[str]) -> None:
    objects = [{"kind": "A", "metadata": {"name": "ä"}}, {"kind": "B", "metadata": {"name": "b"}}]
    print_documents(objects, "yaml")
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == objects
    print_documents(objects, "json")
    assert json.loads(capsys.readouterr().out)["items"] == objects


def test_manifests_as_people_write_them(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    head = "---\n# only a comment\n---\napiVersion: v1\nkind: A\nmetadata: {name: a}\nspec: {selector: {matchLabels: }}\n"
    file.write_text(head + "---\n{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: B, metadata: {name: b}}]}\n")
    assert [document["kind"] for document in manifests.read([file])] == ["A", "List"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [", "cannot be read: line 2, column 1: "),
        (b"- a\n", "document 1 of"),
        (b"name: x\n", "it has no apiVersion"),
        (b"apiVersion: v1\n", "it has no kind"),
        (b"{apiVersion: v1, kind: A, metadata: }", "it has no metadata.name"),
        (b"{apiVersion: v1, kind: A, metadata: {generateName: a}}", "it has no metadata.name"),
        (b"{apiVersion: v1, kind: A, metadata: {name: a}}\n---\n{kind: List, items: [5]}", "document 2 of"),
        (b"{kind: List, items: 5}", "it has no apiVersion"),
        (b"a: \0", "position 3: control characters are not allowed"),
        (b"\xff\xfe\x00a: \x80", "cannot be read"),
    ],
)
def test_bad_manifests_name_the_file(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_bytes(content)
    with pytest.raises(WrongUse, match=r"m\.yaml") as raised:
        manifests.read([file])
    text = format_chain(raised.value)
    assert words in text
    assert "<" not in text, "the parser's own name of the text"


async def test_crds_as_stream_and_as_files(invoke: Invoke, tmp_path: Path) -> None:
    printed = list(yaml.load_all((await invoke("crds")).stdout, Loader=yaml.CSafeLoader))
    assert printed == all_crds()
    folder = tmp_path / "crds"
    await invoke("crds", "--output-dir", str(folder), "-o", "json")
    assert sorted(path.stem for path in folder.iterdir()) == sorted(crd["metadata"]["name"] for crd in all_crds())


async def test_version(invoke: Invoke) -> None:
    assert "Kubernetes v1." in (await invoke("version")).stdout
    assert set(json.loads((await invoke("version", "-o", "json")).stdout)) == {"pilvi", "kubernetes"}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    home = tmp_path / "home"
    save_cloud(make_cloud(home))
    (home / "logs").mkdir()
    path = home / "logs" / "plane-etcd.log"
    path.write_text("one\ntwo\nthree\n")
    return path


async def test_logs_whole_or_the_last_lines(invoke: Invoke, log: Path) -> None:
    assert (await invoke("logs", "plane-etcd")).stdout == "one\ntwo\nthree\n"
    assert (await invoke("logs", "plane-etcd", "--tail", "2")).stdout == "two\nthree\n"
    assert (await invoke("logs", "plane-etcd", "--tail", "0")).stdout == ""


async def test_logs_of_an_unknown_unit_name_the_known(invoke: Invoke, log: Path, machine: Path) -> None:
    result = await invoke("logs", "nobody")
    assert isinstance(result.exception, UserError)
    assert (result.exception.hint or "").startswith(f"one of: m-{short_hash(machine.name)}, plane-etcd; ")


@pytest.mark.parametrize("unit", ["../cloud", "/etc/passwd"])
async def test_logs_of_what_nothing_can_be_called(unit: str, invoke: Invoke, log: Path) -> None:
    assert (await invoke("logs", unit)).exit_code == 2


@pytest.fixture
def machine(log: Path) -> Path:
    """The folder of a machine with all its logs; each holds its own name."""
    folder = log.parents[1] / "machines" / "some-uid"
    inside = folder / "state/layer/var/log"
    inside.mkdir(parents=True)
    (folder / "state/console.log").write_text("console\n")
    for name in ("first-boot", "containerd", "kubelet"):
        (inside / f"{name}.log").write_text(f"{name}\n")
    return folder


@pytest.mark.parametrize("of", ["console", "first-boot", "containerd", "kubelet"])
async def test_logs_of_a_machine_by_unit_and_by_name(of: str, invoke: Invoke, machine: Path, platform: FakeApi, user: Path) -> None:
    path = VirtualMachineInstance.RESOURCE.object_path(Key("team-a", "web"))
    platform.put(path, {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "web", "uid": machine.name}})
    stored = platform.objects[path]["metadata"]["uid"]
    machine.rename(machine.with_name(stored))
    (machine.parents[1] / "admin.conf").write_bytes(user.read_bytes())
    unit = f"m-{short_hash(stored)}"
    for words in ([unit], ["team-a/web"], ["web", "-n", "team-a"]):
        result = await invoke("logs", *words, "--of", of)
        assert result.stdout == f"{of}\n", (words, result.exception)
        if of == "console":
            assert (await invoke("logs", *words)).stdout == "console\n"
    result = await invoke("logs", "web")
    assert isinstance(result.exception, UserError)
    assert "no machine web" in str(result.exception)


async def test_a_machine_is_found_by_its_unit_when_the_api_is_dead(invoke: Invoke, machine: Path) -> None:
    document = {
        "clusters": [{"name": "pilvi", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "pilvi", "user": {"token": "t"}}],
        "contexts": [{"name": "pilvi", "context": {"cluster": "pilvi", "user": "pilvi"}}],
        "current-context": "pilvi",
    }
    (machine.parents[1] / "admin.conf").write_text(json.dumps(document))
    unit = f"m-{short_hash(machine.name)}"
    assert (await invoke("logs", unit, "--of", "kubelet")).stdout == "kubelet\n"
    result = await invoke("logs", "web")
    assert isinstance(result.exception, UserError)
    assert unit in (result.exception.hint or "")


async def test_only_machines_have_several_logs(invoke: Invoke, log: Path) -> None:
    assert (await invoke("logs", "plane-etcd", "--of", "kubelet")).exit_code == 2


async def test_a_log_that_is_not_there_yet_points_to_the_console(invoke: Invoke, machine: Path) -> None:
    (machine / "state/layer/var/log/kubelet.log").unlink()
    result = await invoke("logs", f"m-{short_hash(machine.name)}", "--of", "kubelet")
    assert isinstance(result.exception, UserError)
    assert "console" in (result.exception.hint or "")


@pytest.mark.parametrize("trap", ["link", "folder", "pipe"])
async def test_a_guest_cannot_show_files_of_the_host(trap: str, invoke: Invoke, machine: Path, tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "kubelet.log").write_text("secret\n")
    path = machine / "state/layer/var/log/kubelet.log"
    path.unlink()
    if trap == "link":
        path.symlink_to(tmp_path / "host" / "kubelet.log")
    elif trap == "pipe":
        os.mkfifo(path)
    else:
        shutil.rmtree(path.parent)
        path.parent.symlink_to(tmp_path / "host")
    result = await invoke("logs", f"m-{short_hash(machine.name)}", "--of", "kubelet")
    assert isinstance(result.exception, UserError)
    assert "secret" not in result.output


def test_following_goes_on_over_shortening_and_a_new_file(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Output:
        def __init__(self) -> None:
            self.buffer = io.BytesIO()

    output = Output()
    monkeypatch.setattr(logs.sys, "stdout", output)
    ended = threading.Event()

    def sleep(_: float) -> None:
        if ended.wait(0.005):
            raise KeyboardInterrupt

    monkeypatch.setattr(logs, "time", SimpleNamespace(sleep=sleep))

    def follow() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            logs._follow(lambda: log.open("rb"), file)

    def wait(text: bytes) -> None:
        deadline = time.monotonic() + 5
        while text not in output.buffer.getvalue() and time.monotonic() < deadline:
            time.sleep(0.005)
        assert text in output.buffer.getvalue()

    with log.open("rb") as file:
        file.seek(0, io.SEEK_END)
        thread = threading.Thread(target=follow)
        thread.start()
        with log.open("a") as writer:
            writer.write("four\n")
        wait(b"four\n")
        log.write_text("s\n")
        wait(b"s\n")
        log.rename(log.with_suffix(".1"))
        time.sleep(0.05)  # for a moment there is no log at all
        log.write_text("fresh\n")
        wait(b"fresh\n")
        ended.set()
        thread.join(5)
        assert not thread.is_alive()
