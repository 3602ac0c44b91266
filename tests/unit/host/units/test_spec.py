from pathlib import Path

import msgspec
import pytest

from pilvi.errors import Bug
from pilvi.host import codec
from pilvi.host.units import CgroupLimits, HttpProbe, SocketProbe, TcpProbe, UnitSpec
from pilvi.host.units.spec import check_spec

SPEC = UnitSpec(name="etcd", argv=("/bin/etcd", "--data-dir=/x"), log_path=Path("/var/log/etcd.log"), env={"B": "2", "A": "1"})


def change(**fields: object) -> UnitSpec:
    return msgspec.structs.replace(SPEC, **fields)


@pytest.mark.parametrize(
    "ready",
    [
        None,
        HttpProbe(url="https://127.0.0.1:6443/readyz", ca_path=Path("/ca.crt"), cert_path=Path("/c.crt"), key_path=Path("/c.key")),
        TcpProbe(host="127.0.0.1", port=2379),
        SocketProbe(path=Path("/run/x.sock")),
    ],
)
def test_survives_json(ready: object) -> None:
    spec = change(ready=ready, cgroup=CgroupLimits(memory_bytes=1 << 30), netns="pv-aaaaa-plane", uid=7, gid=7)
    assert codec.decode(codec.encode(spec), UnitSpec) == spec


def test_digest_ignores_the_probe_and_the_order_of_env() -> None:
    assert change(ready=TcpProbe(host="127.0.0.1", port=1)).digest == SPEC.digest
    assert change(env={"A": "1", "B": "2"}).digest == SPEC.digest


@pytest.mark.parametrize(
    "fields",
    [
        {"argv": ("/bin/etcd",)},
        {"env": {}},
        {"netns": "x"},
        {"uid": 1},
        {"cgroup": CgroupLimits(pids=3)},
        {"log_path": Path("/y")},
        {"stop_grace_s": 1.0},
        {"restart": "never"},
        {"hollow_capabilities": (12,)},
    ],
)
def test_digest_sees_everything_else(fields: dict[str, object]) -> None:
    assert change(**fields).digest != SPEC.digest


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "../x"},
        {"name": "A"},
        {"name": "x" * 61},
        {"name": ".x"},
        {"argv": ()},
        {"log_path": Path("x")},
        {"gid": 5},
        {"hollow_capabilities": (12,)},
    ],
)
def test_impossible_specifications_are_bugs(fields: dict[str, object]) -> None:
    with pytest.raises(Bug):
        check_spec(change(**fields))
    check_spec(SPEC)
