"""The floor of a virtual machine: QEMU by hand, an overlay on the tests' guest, QEMU's own network. Standard library only.

Usage: machine.py greets ADDRESS waits, in the network of a guest that others have started, for the last of the following.
Usage: machine.py DISK MEMORY_MIB, where DISK is the guest's qcow2 file; prints

    running SECONDS      from the start of QEMU, with its overlay, until the monitor says that the guest runs
    answers SECONDS      until the guest's SSH server greets, asked every 20 ms
    qemu BYTES           memory of the process then, without the guest's own
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

POLL_S = 0.02
LISTEN_S = 0.1  # QEMU holds a connection open while the guest has no network yet
PATIENCE_S = 120.0


def main(disk: str, memory_mib: str) -> None:
    """Start, measure, end."""
    with tempfile.TemporaryDirectory(prefix="floor-", dir="/var/tmp") as name:
        folder = Path(name)
        port = free_port()
        started = time.monotonic()
        overlay = folder / "disk.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "qcow2", overlay], check=True)
        with subprocess.Popen(command(folder, overlay, int(memory_mib), port), stdin=subprocess.DEVNULL) as process:
            try:
                wait_running(folder / "qmp", started)
                print("running", time.monotonic() - started)
                wait_greeting("127.0.0.1", port, started)
                print("answers", time.monotonic() - started)
                print("qemu", process_bytes(process.pid))
            finally:
                process.kill()


def command(folder: Path, overlay: Path, memory_mib: int, port: int) -> list[str]:
    """The argv of QEMU. The guest's memory is shared, so that the kernel tells it from the process's own."""
    words = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg,thread=multi", "-cpu", "max"]
    words += ["-object", f"memory-backend-memfd,id=ram,size={memory_mib}M,share=on", "-machine", "pc-q35-7.2,memory-backend=ram"]
    words += ["-m", str(memory_mib), "-qmp", f"unix:{folder}/qmp,server=on,wait=off", "-serial", f"file:{folder}/console"]
    words += ["-drive", f"file={overlay},if=none,id=disk,format=qcow2", "-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"]
    return [*words, "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-net-pci,netdev=net"]


def wait_running(path: Path, started: float) -> None:
    """Ask the monitor until the guest runs."""
    with socket.socket(socket.AF_UNIX) as connection:
        while True:
            try:
                connection.connect(str(path))
                break
            except OSError:
                pause(started)
        with connection.makefile("rw") as stream:
            stream.readline()  # the greeting
            ask(stream, "qmp_capabilities")
            while ask(stream, "query-status")["status"] != "running":
                pause(started)


def ask(stream: Any, what: str) -> Any:
    """One command of QMP; events are passed over."""
    stream.write(json.dumps({"execute": what}) + "\n")
    stream.flush()
    while "return" not in (answer := json.loads(stream.readline())):
        assert "error" not in answer, answer
    return answer["return"]


def wait_greeting(address: str, port: int, started: float) -> None:
    """QEMU takes connections before the guest does, so only what the guest says counts."""
    while True:
        try:
            with socket.create_connection((address, port), timeout=LISTEN_S) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        pause(started)


def pause(started: float) -> None:
    """Wait for the next look; raises TimeoutError after two minutes."""
    if time.monotonic() - started > PATIENCE_S:
        raise TimeoutError
    time.sleep(POLL_S)


def process_bytes(pid: int) -> int:
    """Resident memory without what is shared, which is the guest's."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


if __name__ == "__main__":
    if sys.argv[1] == "greets":
        wait_greeting(sys.argv[2], 22, time.monotonic())
    else:
        main(*sys.argv[1:])
