from pilvi.host.checks import check_host
from pilvi.host.netns import list_netns


async def test_this_host_can_carry_a_cloud_and_the_trial_leaves_nothing() -> None:
    findings = {finding.name: finding for finding in await check_host()}
    assert {"root", "kernel", "nft", "nsenter", "cgroups", "overlay", "loop", "inotify", "namespaces", "bridge", "veth", "nftables"} <= set(
        findings
    )
    assert [finding for finding in findings.values() if not finding.is_ok] == []
    assert list_netns("pv-doctor-") == []
