import shutil
from pathlib import Path

import pytest

from pilvi.host.checks import check_host, check_machines
from pilvi.host.netns import list_netns


async def test_this_host_can_carry_a_cloud_and_the_trial_leaves_nothing() -> None:
    findings = {finding.name: finding for finding in await check_host()}
    assert {
        "root",
        "kernel",
        "nft",
        "nsenter",
        "cgroups",
        "overlay",
        "loop",
        "inotify",
        "namespaces",
        "bridge",
        "veth",
        "nftables",
        "nftables on bridges",
        "user namespaces",
    } <= set(findings)
    assert [finding for finding in findings.values() if not finding.is_ok] == []
    assert list_netns("pv-doctor-") == []


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs the Debian package qemu-system-x86")
async def test_what_machines_need(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in await check_machines(tmp_path / "kit" / "kvm.json")}
    assert set(findings) == {"qemu-system-x86_64", "qemu-img", "swtpm", "uefi", "kvm"}
    assert findings["kvm"].is_ok
    assert findings["kvm"].message.startswith(("KVM works: a kernel booted", "KVM is not used: "))


async def test_a_host_without_qemu_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilvi.host.qemu.installed.SAFE_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    findings = {finding.name: finding for finding in await check_machines(tmp_path / "kvm.json")}
    assert findings["qemu-system-x86_64"].fix == "sudo apt-get install qemu-system-x86"
    assert "kvm" not in findings
