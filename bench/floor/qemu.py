"""QEMU started by hand, as the floors of virtual machines do: an overlay on the tests' guest, QEMU's own network. Standard library only."""

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLL_S = 0.02
LISTEN_S = 0.1  # QEMU holds a connection open while the guest has no network yet
PATIENCE_S = 120.0


class Monitor:
    """QEMU's monitor. Raises TimeoutError when nobody listens at `path` within two minutes."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        for _ in patience():
            try:
                self._socket.connect(str(path))
                break
            except OSError:
                continue
        self._stream = self._socket.makefile("rw")
        self._stream.readline()  # the greeting
        self.ask("qmp_capabilities")

    def ask(self, what: str, **arguments: Any) -> Any:
        """One command; events are passed over."""
        self._stream.write(json.dumps({"execute": what, "arguments": arguments}) + "\n")
        self._stream.flush()
        while "return" not in (answer := json.loads(self._stream.readline())):
            assert "error" not in answer, answer
        return answer["return"]

    def wait(self, what: str, status: str) -> dict[str, Any]:
        """Ask until the answer has that status; the answer."""
        for _ in patience():
            answer = self.ask(what)
            if answer.get("status") == status:
                return dict(answer)
        raise TimeoutError(what)

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()


@dataclass
class Machine:
    """A process of QEMU. `folder` has its sockets `qmp` and `vnc`, and `serial`, which is a socket or a file; SSH is at `port` of
    loopback."""

    folder: Path
    port: int
    pid: int

    def monitor(self) -> Monitor:
        """A connection to the monitor."""
        return Monitor(self.folder / "qmp")


@contextmanager
def machine(disk: Path, memory_mib: int, *words: str, overlay: Path | None = None, serial: str = "file") -> Iterator[Machine]:
    """A machine on an overlay of `disk`, made here unless it is given, with more `words` of QEMU; killed at the end.

    The guest's memory is shared, so that the kernel tells it from the process's own.
    """
    with tempfile.TemporaryDirectory(prefix="floor-", dir="/var/tmp") as name:
        folder, port = Path(name), free_port()
        if overlay is None:
            overlay = folder / "disk.qcow2"
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", overlay], check=True)
        command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg,thread=multi", "-cpu", "max"]
        command += ["-object", f"memory-backend-memfd,id=ram,size={memory_mib}M,share=on", "-machine", "pc-q35-7.2,memory-backend=ram"]
        command += ["-m", str(memory_mib), "-qmp", f"unix:{folder}/qmp,server=on,wait=off", "-device", "VGA", "-vnc", f"unix:{folder}/vnc"]
        command += ["-serial", f"file:{folder}/serial" if serial == "file" else f"unix:{folder}/serial,server=on,wait=off"]
        command += ["-drive", f"file={overlay},if=none,id=disk,format=qcow2", "-device", "virtio-blk-pci,drive=disk"]
        command += ["-device", "virtio-rng-pci", "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22"]
        command += ["-device", "virtio-net-pci,netdev=net", *words]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
            try:
                yield Machine(folder, port, process.pid)
            finally:
                process.kill()


def wait_greeting(address: str, port: int) -> None:
    """Until the guest's SSH server greets. QEMU takes connections before the guest does, so only what the guest says counts."""
    for _ in patience():
        try:
            with socket.create_connection((address, port), timeout=LISTEN_S) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass


def patience() -> Iterator[None]:
    """Tries every 20 ms; raises TimeoutError after two minutes."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        yield
        time.sleep(POLL_S)
    raise TimeoutError


def process_bytes(pid: int) -> int:
    """Resident memory without what is shared, which is the guest's."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
