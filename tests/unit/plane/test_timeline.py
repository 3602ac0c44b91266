from pilvi.host.units import UnitState
from pilvi.lib.clock import parse_time
from pilvi.lib.hashing import short_hash
from pilvi.plane.timeline import Inside, compute_timeline
from tests.unit.plane.objects import cond, obj, ready_cluster, world_of

START = parse_time("2026-01-01T00:00:00Z").timestamp()


def unit(component: str, seconds: float, restarts: int = 0) -> UnitState:
    name = f"cp-{short_hash('TenantControlPlane/first')}-{component}"
    return UnitState(name=name, state="running", started_at=START + seconds, restarts=restarts)


def at(seconds: int) -> str:
    return f"2026-01-01T00:00:{seconds:02d}Z"


INSIDE = Inside(
    nodes=[
        obj("Node", "m1", cond("Ready", since=at(12)), namespace="", created=at(10)),
        obj("Node", "m2", cond("Ready", since=at(13)), namespace="", created=at(11)),
    ],
    coredns=obj("Deployment", "coredns", cond("Available", since=at(15))),
    first_namespace=obj("Namespace", "kube-system", namespace="", created=at(3)),
)


def spans(inside: Inside = INSIDE, units: list[UnitState] | None = None) -> dict[str, tuple[float, float]]:
    objects = ready_cluster()
    phases = compute_timeline(world_of(objects), objects["Cluster/first"], inside, units or [])
    return {phase.name: (phase.started_at - START, phase.ended_at - START) for phase in phases}


def test_all_phases_from_objects_and_units() -> None:
    units = [unit("etcd", 1.25), unit("kube-apiserver", 1.5), unit("kube-controller-manager", 4.75)]
    assert spans(units=units) == {
        "network": (0, 1),
        "etcd": (1.25, 3),
        "API": (1.5, 4.75),
        "join": (8, 11),
        "Ready": (11, 13),
        "DNS": (12, 15),
    }


def test_without_units_conditions_tell() -> None:
    found = spans()
    assert found["etcd"] == (1, 3)
    assert found["API"] == (1, 5)


def test_a_unit_that_was_started_again_tells_nothing_of_the_beginning() -> None:
    found = spans(units=[unit("etcd", 900, restarts=2), unit("kube-apiserver", 900, restarts=1)])
    assert found["API"] == (1, 5)


def test_units_of_a_later_start_tell_nothing_of_the_beginning() -> None:
    """After a power cut all units are new, and count no restarts."""
    names = ("etcd", "kube-apiserver", "kube-controller-manager")
    machine = UnitState(name=f"m-{short_hash('VirtualMachineInstance/m1')}", state="running", started_at=START + 900)
    assert spans(units=[*(unit(name, 900) for name in names), machine]) == spans()


def test_a_join_begins_with_the_machines_process() -> None:
    machine = UnitState(name=f"m-{short_hash('VirtualMachineInstance/m1')}", state="running", started_at=START + 8.75)
    assert spans(units=[machine])["join"] == (8.75, 11)


def test_only_times_of_processes_are_exact() -> None:
    objects = ready_cluster()
    units = [unit("etcd", 1.25), unit("kube-apiserver", 1.5), unit("kube-controller-manager", 4.75)]
    phases = compute_timeline(world_of(objects), objects["Cluster/first"], INSIDE, units)
    assert {phase.name for phase in phases if phase.is_exact} == {"API"}


def test_phases_that_are_not_over_are_left_out() -> None:
    inside = Inside(nodes=[obj("Node", "m1", cond("Ready", "False"), namespace="", created=at(10))])
    assert set(spans(inside)) == {"network", "API", "join"}


def test_whole_seconds_never_make_a_phase_negative() -> None:
    inside = Inside(first_namespace=obj("Namespace", "kube-system", namespace="", created=at(1)))
    assert spans(inside, [unit("etcd", 1.75)])["etcd"] == (1.75, 1.75)
