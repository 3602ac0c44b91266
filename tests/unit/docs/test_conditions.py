"""docs/reference/conditions.md names every type and reason that the controllers write, and no other."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROVIDERS = ROOT / "src" / "pilvi" / "providers"
PAGE = ROOT / "docs" / "reference" / "conditions.md"

_WORD = re.compile(r"(pilvi\.dev/)?[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*")

# Words of that form that are neither type nor reason of a condition or an Event. A new word has to go here or into the page.
OTHERS = {
    "values of fields": """Always Block ClientIP ConfigDrive Delete Exists ExternalIP Filesystem Group Halted Hostname IPv4 IfNotPresent
        InPlace InternalDNS InternalIP LoadBalancer Manual Never NoCloud NoExecute NoSchedule Once Opaque PrefixTargetName
        ReadOnlyMany ReadWriteMany ReadWriteOnce RerunOnFailure
        RuntimeDefault Start Stop Terminate""",
    "kinds": """Cluster ClusterRole ControllerRevision KubevirtCluster List Machine Node Pod Status TenantControlPlane TokenRequest
        UploadTokenRequest VirtualMachine VirtualMachineInstance VirtualMachineInstanceFileSystemList VirtualMachineInstanceGuestAgentInfo
        VirtualMachineInstanceGuestOSUserList VolumeSnapshot VolumeSnapshotContent""",
    "phases and printed statuses": """CrashLoopBackOff DataVolumeError ErrorPvcNotFound ErrorUnschedulable Lost Pending PendingPopulation
        RebindInProgress Released RestoreInProgress Scheduled Scheduling Skipped SnapshotInProgress Starting Stopping Succeeded Terminating
        WaitingForVolumeBinding""",
    "status, severity, type of an Event": "False True Unknown Info Normal Warning",
    "reasons in the engine's log only": """AddressConflict ContentIsDeleted DefinitionNotFound InvalidAddress InvalidConfig InvalidProvider
        PodExists SubnetNotFound SubnetNotReady TenantControlPlaneDeleting TypeNotSupported""",
    "the rest": """All Body DataVolumeName Digest GuestPanicked ImagePullFailed InternalError Known KubeVirt Linux MemAvailable MemTotal
        MemoryDump NodeRestriction None Port Refusal Waiting""",
    "of instancetypes and replica sets": """CoresThreads DataSource DoesNotExist GraphicsDevice Ignore In InputDevice MemBalloon NotIn
        PodInterface Ref Resumed SerialConsole SocketsCores SocketsCoresThreads""",
    "words of moves between hosts": """External LiveMigrate LiveMigrateIfPossible LiveMigration NotRunning PreCopy PreparingTarget Queued
        TargetNotReady TargetReady TooManyRequests Unheard Unscheduled""",
}


def _others() -> set[str]:
    return {word for words in OTHERS.values() for word in words.split()}


def _words_of(path: Path) -> set[str]:
    """Every string in the module that looks like a type or a reason; annotations and `__all__` left out."""
    tree = ast.parse(path.read_text())
    left_out: set[int] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            parts.append(node.value)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
            parts.append(node)
        left_out |= {id(inner) for part in parts if part is not None for inner in ast.walk(part)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out and _WORD.fullmatch(node.value)
    }


def _in_source() -> set[str]:
    return set().union(*(_words_of(path) for path in PROVIDERS.rglob("*.py")))


def _on_page() -> set[str]:
    return {word for word in re.findall(r"`([^`\n]+)`", PAGE.read_text()) if _WORD.fullmatch(word)}


def test_every_type_and_reason_is_on_the_page() -> None:
    assert _in_source() - _on_page() - _others() == set()


def test_the_page_names_nothing_that_no_controller_writes() -> None:
    assert _on_page() - _in_source() == set()


def test_the_list_of_other_words_is_not_longer_than_needed() -> None:
    assert _others() - _in_source() == set()
    assert _others() & _on_page() == set()
