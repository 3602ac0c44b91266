from __future__ import annotations

from typing import Any

import pytest

from pilvi.errors import UserError
from pilvi.providers.sizing import find_cpu_limit, find_size, get_size

GIB = 1024**3


@pytest.mark.parametrize(
    ("domain", "vcpus"),
    [
        ({"cpu": {"cores": 2}}, 2),
        ({"cpu": {"cores": 2, "sockets": 2, "threads": 2}}, 8),
        ({"cpu": None}, 1),
        ({"cpu": {}, "resources": {"requests": {"cpu": "1500m"}}}, 2),
        ({"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}}, 3),
        ({"cpu": {"cores": 4}, "resources": {"limits": {"cpu": "1"}}}, 4),
    ],
)
def test_vcpus(domain: dict[str, Any], vcpus: int) -> None:
    assert get_size({"domain": {"memory": {"guest": "1Gi"}, **domain}}).vcpus == vcpus


@pytest.mark.parametrize(
    ("domain", "size"),
    [
        ({"memory": {"guest": "2Gi"}, "resources": {"requests": {"memory": "1Gi"}}}, 2 * GIB),
        ({"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "4Gi"}}}, GIB),
        ({"resources": {"limits": {"memory": "4Gi"}}}, 4 * GIB),
        ({"memory": {"hugepages": {"pageSize": "1Gi"}}}, GIB),
        ({"memory": {"guest": "200M"}}, 191 << 20),
    ],
)
def test_memory(domain: dict[str, Any], size: int) -> None:
    assert get_size({"domain": domain}).memory_bytes == size


@pytest.mark.parametrize(
    ("domain", "named"),
    [
        ({}, "memory is not given"),
        ({"memory": {"guest": "0"}}, "spec.domain.memory.guest is 0"),
        ({"memory": {"guest": "1Gi"}, "cpu": {"cores": -1}}, "spec.domain.cpu.cores"),
        ({"memory": {"guest": "1Gi"}, "cpu": {"cores": 600}}, "600 vCPUs"),
        ({"memory": {"guest": "2Gi"}, "resources": {"limits": {"memory": "1Gi"}}}, "more than spec.domain.resources.limits.memory"),
        ({"memory": {"guest": "plenty"}}, "plenty"),
    ],
)
def test_refusals_name_the_field(domain: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        get_size({"domain": domain})
    assert find_size({"domain": domain}) is None


@pytest.mark.parametrize(
    ("resources", "cpu_milli"),
    [(None, None), ({"requests": {"cpu": "2"}}, None), ({"limits": {"cpu": "1500m"}}, 1500), ({"limits": {"cpu": 1}}, 1000)],
)
def test_processor_limit(resources: dict[str, Any] | None, cpu_milli: int | None) -> None:
    assert find_cpu_limit({"domain": {"resources": resources}}) == cpu_milli


def test_a_processor_limit_that_is_none() -> None:
    with pytest.raises(UserError, match=r"limits\.cpu is 1m"):
        find_cpu_limit({"domain": {"resources": {"limits": {"cpu": "1m"}}}})
