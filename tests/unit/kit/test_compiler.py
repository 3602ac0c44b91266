import pytest

from pilvi.errors import DriverError
from pilvi.kit.compiler import explain_failure


@pytest.mark.parametrize(
    ("stderr", "meaning", "hint"),
    [
        (
            'go: downloading a v1\nx@v1: Get "https://proxy.example/x": dial tcp: lookup proxy.example: no such host\n',
            "cannot be fetched",
            "GOPROXY",
        ),
        ("x@v1: reading https://proxy.example/x.zip: 502 Bad Gateway\n", "cannot be fetched", "GOPROXY"),
        ("x@v1: reading https://proxy.example/x.zip: 404 Not Found\n", "cannot be fetched", "GOPROXY"),
        ("k8s.io/x: /go/compile: signal: killed\n", "memory ran out", "free memory"),
        ("write /tmp/x: no space left on device\n", "the disk is full", "free some space"),
        ("verifying x@v1: checksum mismatch\n", "another content than go.sum says", "nothing of it was used"),
        ("main.go:3: missing go.sum entry for module providing package x\n", "do not fit together", "go mod tidy"),
        ("main.go:3: undefined: y\n", "the compiler failed", "lines above"),
    ],
)
def test_failures_say_what_they_mean(stderr: str, meaning: str, hint: str) -> None:
    error = explain_failure("node", DriverError(["go", "build"], 1, stderr))
    assert meaning in str(error)
    assert stderr.strip().splitlines()[-1] in str(error)
    assert "downloading" not in str(error)
    assert hint in str(error.hint)


def test_only_the_last_lines_are_shown() -> None:
    error = explain_failure("node", DriverError(["go"], 1, "\n".join(f"line {number}" for number in range(100))))
    assert "line 99" in str(error)
    assert "line 91" not in str(error)


def test_without_output_the_command_is_shown() -> None:
    assert "exit code 3: go build" in str(explain_failure("node", DriverError(["go", "build"], 3, "")))
