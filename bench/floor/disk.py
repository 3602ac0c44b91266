"""The floor of a machine's disk: fio on a raw file of the host. Standard library only.

Usage: disk.py FOLDER; prints for each job of `JOBS` its name and BYTES in a second, or SECONDS of one request.
"""

import subprocess
import sys
import tempfile

MIB = 1 << 20
SIZE_MIB = 256
_COMMON = ["--minimal", "--thread", "--direct=1", "--ioengine=libaio", f"--size={SIZE_MIB}M"]
_SMALL = ["--bs=4k", "--iodepth=1", "--runtime=5", "--time_based"]
JOBS = {
    "write": ["--rw=write", "--bs=1M", "--iodepth=4", "--end_fsync=1"],
    "read": ["--rw=read", "--bs=1M", "--iodepth=4"],
    "write-4k": ["--rw=randwrite", *_SMALL],
    "read-4k": ["--rw=randread", *_SMALL],
}
"""In that order: only what has been written is read."""
# Places in a line of fio's third terse format: KiB in a second, and the mean microseconds of a whole request.
_RATE, _LATENCY = {"read": 6, "write": 47}, {"read": 39, "write": 80}


def words(job: str, file: str) -> list[str]:
    """The command line of a job."""
    return ["fio", *_COMMON, f"--name={job}", f"--filename={file}", *JOBS[job]]


def figure(job: str, line: str) -> float:
    """What fio's line says: bytes in a second, of jobs with small requests the seconds of one."""
    fields, (kind, _, small) = line.split(";"), job.partition("-")
    assert (fields[0], fields[4]) == ("3", "0"), line
    return float(fields[_LATENCY[kind]]) / 1e6 if small else float(fields[_RATE[kind]]) * 1024


def main(folder: str) -> None:
    """Run all jobs on one file."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.truncate(SIZE_MIB * MIB)
        for job in JOBS:
            done = subprocess.run(words(job, file.name), check=True, capture_output=True, text=True)
            print(job, figure(job, done.stdout.strip().splitlines()[-1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
