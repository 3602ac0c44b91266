from pathlib import Path

import pytest

from pilvi.errors import Bug
from pilvi.kit.images import parse_ldd, parse_references, parse_sandbox_image

LISTED = """registry.k8s.io/kube-apiserver:v1.37.2
registry.k8s.io/kube-proxy:v1.37.2
registry.k8s.io/coredns/coredns:v1.14.6
registry.k8s.io/pause:3.10.2
registry.k8s.io/etcd:3.7.0-0
"""

LDD = """/usr/sbin/nft:
\tlinux-vdso.so.1 (0x00007f88c5e55000)
\tlibnftables.so.1 => /lib/x86_64-linux-gnu/libnftables.so.1 (0x00007f88c5d5f000)
\tlibusr.so.1 => /usr/lib/x86_64-linux-gnu/libusr.so.1 (0x00007f88c5d5f000)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f88c5e57000)
/usr/sbin/other:
\tlibnftables.so.1 => /lib/x86_64-linux-gnu/libnftables.so.1 (0x00007f88c5d5f000)
"""


def test_references_are_those_that_kubeadm_deploys() -> None:
    references = parse_references(LISTED)
    assert references["kube-proxy"] == "registry.k8s.io/kube-proxy:v1.37.2"
    assert references["coredns"] == "registry.k8s.io/coredns/coredns:v1.14.6"
    assert references["pause"] == "registry.k8s.io/pause:3.10.2"


def test_a_list_without_pause_is_a_bug() -> None:
    with pytest.raises(Bug, match="no image called pause"):
        parse_references("registry.k8s.io/kube-proxy:v1.37.2\n")


def test_sandbox_image_of_containerd() -> None:
    config = "  [plugins.x]\n      sandbox = 'registry.k8s.io/pause:3.10.2'\n      sandboxer = 'podsandbox'\n"
    assert parse_sandbox_image(config) == "registry.k8s.io/pause:3.10.2"
    with pytest.raises(Bug, match="sandbox image"):
        parse_sandbox_image("sandboxer = 'podsandbox'")


def test_libraries_keep_the_path_that_programs_look_for() -> None:
    assert dict(parse_ldd(LDD)) == {
        "usr/lib/x86_64-linux-gnu/libnftables.so.1": Path("/lib/x86_64-linux-gnu/libnftables.so.1"),
        "usr/lib/x86_64-linux-gnu/libusr.so.1": Path("/usr/lib/x86_64-linux-gnu/libusr.so.1"),
        "usr/lib64/ld-linux-x86-64.so.2": Path("/lib64/ld-linux-x86-64.so.2"),
    }
