import os
import subprocess

import msgspec

from pilvi.host.units.identity import read_identity


def test_this_process_is_alive() -> None:
    me = read_identity(os.getpid())
    assert me is not None
    assert me.is_alive
    assert not msgspec.structs.replace(me, started=me.started + 1).is_alive
    assert not msgspec.structs.replace(me, boot="another").is_alive


def test_a_program_name_with_parentheses_and_spaces(tmp_path: object) -> None:
    program = f"{tmp_path}/a) R 1 (b"
    os.symlink("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as child:
        try:
            found = read_identity(child.pid)
            assert found is not None
            assert found.pid == child.pid
        finally:
            child.kill()


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert os.path.exists(f"/proc/{child.pid}/stat")
    assert read_identity(child.pid) is None
    child.wait()
    assert read_identity(child.pid) is None
