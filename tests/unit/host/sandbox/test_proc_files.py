"""What a sandbox sees of the kernel's files."""

from pathlib import Path

from pilvi.host.sandbox import cpuinfo_file, meminfo_file, private_sysctls


def test_meminfo_shows_the_machines_memory_and_no_swap() -> None:
    file = meminfo_file(2 << 30)
    fields = dict(line.split(":") for line in file.content.decode().splitlines())
    assert file.path == Path("/proc/meminfo")
    assert fields["MemTotal"].split() == ["2097152", "kB"]
    assert fields["SwapTotal"].split() == ["0", "kB"]


def test_cpuinfo_repeats_the_first_processor_with_numbers_of_its_own() -> None:
    host = "processor\t: 7\nmodel name\t: Fast\ncore id\t\t: 3\n\nprocessor\t: 8\nmodel name\t: Slow\n\n"
    text = cpuinfo_file(3, host).content.decode()
    assert [line for line in text.splitlines() if line.startswith("processor")] == ["processor\t: 0", "processor\t: 1", "processor\t: 2"]
    assert text.count("Fast") == 3
    assert "Slow" not in text
    assert "core id\t\t: 2" in text


def test_private_sysctls_start_with_the_hosts_values_and_leave_out_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "kernel/keys").mkdir(parents=True)
    (tmp_path / "kernel/keys/root_maxkeys").write_bytes(b"200\n")
    files = private_sysctls(("kernel.keys.root_maxkeys", "kernel.absent"), proc_sys=tmp_path)
    assert [(file.path, file.content) for file in files] == [(Path("/proc/sys/kernel/keys/root_maxkeys"), b"200\n")]
