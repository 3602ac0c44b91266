"""What SIGUSR2 makes an engine say, as the process that it is."""

import signal
import subprocess
import sys

PROGRAM = """
import asyncio, logging, os, signal, time
from pilvi.engine.dump import dump_on_signal

async def wait_for_godot():
    await asyncio.Event().wait()

def sleep_in_thread():
    time.sleep(0.5)

async def main():
    logging.basicConfig()
    dump_on_signal(asyncio.get_running_loop())
    task = asyncio.create_task(wait_for_godot(), name="the tramp")
    thread = asyncio.create_task(asyncio.to_thread(sleep_in_thread))
    await asyncio.sleep(0.1)
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGUSR2)
        await asyncio.sleep(0.1)
    await thread
    task.cancel()
    print("alive")

asyncio.run(main())
"""


def test_threads_and_tasks_are_told_and_the_engine_lives_on() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "alive\n"
    assert done.stderr.count("in sleep_in_thread") == 2
    assert done.stderr.count("the tramp: wait_for_godot (<string>:6) > Event.wait (locks.py:") == 2


def test_without_it_the_signal_ends_a_process() -> None:
    program = PROGRAM.replace("    dump_on_signal(", "    (")
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, check=False).returncode == -signal.SIGUSR2
