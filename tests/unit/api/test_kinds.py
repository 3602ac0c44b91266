"""What must hold for the kinds that pilvi serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilvi.api.contract import ADDITIONS
from pilvi.api.crd import members
from pilvi.api.crds import KINDS, all_crds
from pilvi.api.document import document
from pilvi.api.field import NOT_YET, Level
from pilvi.api.policies import leaves
from tests.unit.api.test_crd import walk

ROOT = Path(__file__).parents[3]
KIND = {kind.RESOURCE.kind: kind for kind in KINDS}
CONSIDERED = ("kamaji.clastix.io", "controlplane.cluster.x-k8s.io", "infrastructure.cluster.x-k8s.io")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.RESOURCE.group in CONSIDERED], ids=lambda kind: kind.RESOURCE.kind)
def test_every_field_was_considered(kind: type) -> None:
    """No field of these groups is there by its name and type only; the machine inside is KubeVirt's."""
    for leaf in leaves(kind):
        if "virtualMachineTemplate.spec." not in leaf.path:
            assert leaf.note.doc, f"{leaf.path} has no note"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.RESOURCE.kind)
def test_the_notes_read_well(kind: type) -> None:
    found = list(leaves(kind))
    for leaf in found:
        note = leaf.note
        assert note.reason, leaf.path
        assert not note.reason.endswith("."), leaf.path
        assert not note.doc or note.doc.endswith("."), leaf.path
        assert len(note.description) < 250, leaf.path
        assert bool(note.instead) == (note.level is Level.REJECTED), leaf.path
    assert len({leaf.path for leaf in found}) == len(found)


NOT_HONOURED = [
    ("DataStore", "spec.endpoints", Level.ACCEPTED, ""),
    ("KubevirtCluster", "spec.controlPlaneServiceTemplate", Level.ACCEPTED, ""),
    ("KubevirtClusterTemplate", "spec.template.spec.controlPlaneServiceTemplate", Level.ACCEPTED, ""),
    ("KubevirtMachine", "spec.virtualMachineTemplate.metadata.name", Level.ACCEPTED, ""),
    ("KamajiControlPlane", "spec.network.serviceType", Level.ACCEPTED, "self != 'LoadBalancer'"),
    ("KamajiControlPlane", "spec.dataStoreSchema", Level.ACCEPTED, ""),
    ("KamajiControlPlane", "spec.apiServer.resources.requests", Level.ACCEPTED, ""),
    ("TenantControlPlane", "spec.controlPlane.service.serviceType", Level.ACCEPTED, "self != 'LoadBalancer'"),
    ("TenantControlPlane", "spec.dataStoreUsername", Level.ACCEPTED, ""),
    ("Subnet", "spec.enableDHCP", Level.ACCEPTED, "!self"),
    ("Subnet", "spec.protocol", Level.REJECTED, "self != '' && self != 'IPv4'"),
    ("Subnet", "spec.acls", Level.REJECTED, ""),
    ("Vpc", "spec.policyRoutes", Level.REJECTED, ""),
]


@pytest.mark.parametrize(("kind", "path", "level", "when"), NOT_HONOURED)
def test_what_nothing_reads_says_so(kind: str, path: str, level: Level, when: str) -> None:
    (found,) = (leaf for leaf in leaves(KIND[kind]) if leaf.path == path)
    assert (found.note.level, found.note.when) == (level, when)


HONOURED = [
    ("KamajiControlPlane", "spec.addons.coreDNS.imageRepository"),
    ("KamajiControlPlane", "spec.addons.kubeProxy.imageRepository"),
    ("KamajiControlPlane", "spec.scheduler.resources.limits"),
    ("TenantControlPlane", "spec.controlPlane.deployment.resources.apiServer.limits"),
    ("VirtualMachine", "spec.template.spec.domain.devices.disks[].bootOrder"),
    ("VirtualMachine", "spec.template.spec.domain.devices.interfaces[].macAddress"),
    ("VirtualMachine", "spec.dataVolumeTemplates[].spec.source.http.url"),
    ("VirtualMachine", "spec.template.spec.volumes[].configMap.name"),
    ("VirtualMachine", "spec.template.spec.volumes[].serviceAccount.serviceAccountName"),
    ("CDIConfig", "spec.insecureRegistries"),
    ("DataImportCron", "spec.importsToKeep"),
    ("Subnet", "spec.dhcpV4Options"),
    ("Subnet", "spec.mtu"),
]


@pytest.mark.parametrize(("kind", "path"), HONOURED)
def test_what_is_honoured_gives_no_warning(kind: str, path: str) -> None:
    assert not [leaf.path for leaf in leaves(KIND[kind]) if path == leaf.path or path.startswith(f"{leaf.path}.")]


def test_a_spec_that_nobody_considered_would_be_noticed() -> None:
    unknown = [member.name for member in members(KINDS[-1], NOT_YET) if member.note.reason == NOT_YET.reason]
    assert "spec" in unknown  # the root has no notes of its own, its spec has


def test_every_field_of_machines_and_disks_has_been_considered() -> None:
    ours = [kind for kind in KINDS if f".{kind.RESOURCE.group}".endswith(".kubevirt.io")]
    assert len(ours) > 20
    assert [f"{kind.__name__} {leaf.path}" for kind in ours for leaf in leaves(kind) if leaf.note.reason == NOT_YET.reason] == []


def test_the_field_reference_is_up_to_date() -> None:
    page = (ROOT / "docs/reference/fields.md").read_text()
    assert page == document(), "run: .venv/bin/python -m pilvi.api.document > docs/reference/fields.md"


def test_what_upstream_lacks_is_in_the_definitions_and_allowed() -> None:
    schemas = {crd["metadata"]["name"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in all_crds()}
    paths = {f"{name} {path}" for name, schema in schemas.items() for path, _ in walk(schema, "")}
    lines = [line for line in (ROOT / "tests/crd-allowances.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if line not in paths] == []
    for name, additions in ADDITIONS.items():
        for path in additions:
            assert f"{name} .{path}" in lines


def test_what_an_instancetype_copies_goes_as_far_as_the_field_that_it_fills() -> None:
    def level(kind: str, path: str) -> tuple[str, str]:
        found = [leaf.note for leaf in leaves(KIND[kind]) if path == leaf.path or path.startswith(f"{leaf.path}.")]
        return (found[0].level.value, found[0].when) if found and found[0].level else ("implemented", "")

    machine = "spec.domain"
    for kind, path, filled in (
        ("VirtualMachineInstancetype", "spec.gpus", f"{machine}.devices.gpus"),
        ("VirtualMachineInstancetype", "spec.launchSecurity", f"{machine}.launchSecurity"),
        ("VirtualMachineClusterInstancetype", "spec.cpu.dedicatedCPUPlacement", f"{machine}.cpu.dedicatedCpuPlacement"),
        ("VirtualMachineClusterInstancetype", "spec.cpu.maxSockets", f"{machine}.cpu.maxSockets"),
        ("VirtualMachinePreference", "spec.devices.preferredTPM", f"{machine}.devices.tpm"),
        ("VirtualMachinePreference", "spec.devices.preferredRng", f"{machine}.devices.rng"),
        ("VirtualMachineClusterPreference", "spec.preferredSubdomain", "spec.subdomain"),
        ("VirtualMachineClusterPreference", "spec.preferredArchitecture", "spec.architecture"),
    ):
        assert level(kind, path) == level("VirtualMachineInstance", filled), path
    assert level("VirtualMachineInstancetype", "spec.memory.guest") == ("implemented", "")
