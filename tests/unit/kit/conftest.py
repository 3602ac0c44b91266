"""A toolchain of shell scripts: it answers as Go and gcc do, and each program that it compiles is a script that answers as kubectl does."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilvi.kit.store import Store

GO = r"""#!/bin/sh
echo "$1 $*" >> "$CALLS/go"
case "$1" in
env) echo "${FAKE_GO_VERSION:-go1.30.0}" ;;
list) printf 'a\nb\nc\n' ;;
mod) echo "{\"Dir\": \"$CALLS\"}" ;;
build)
  while [ "$1" != -o ]; do shift; done
  mkdir -p "$GOTMPDIR/go-build1/b001" "$GOTMPDIR/go-build1/b002"
  case " $* " in *" $FAIL_PACKAGE "*) echo 'x.go:1: boom' >&2; exit 1 ;; esac
  if [ -n "$HANG" ]; then sleep 600; fi
  cp "$CALLS/program" "$2"; chmod 755 "$2"; rm -r "$GOTMPDIR/go-build1" ;;
esac
"""

GCC = r"""#!/bin/sh
case "$1" in
-print-file-name=*) echo "/usr/lib/${1#*=}"; exit ;;
esac
while [ "$1" != -o ]; do shift; done
cp "$CALLS/program" "$2"
"""

PROGRAM = r"""#!/bin/sh
case "$(basename "$0") $1 $2" in
"kubectl kustomize "*core/config*) cat "$(dirname "$2")/../../core.yaml" ;;
"kubectl kustomize "*) ;;
esac
"""


class Toolchain:
    """The fake tools on PATH. They read a file of settings, because `lib.run` hands no environment variables on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._settings: dict[str, str] = {"CALLS": str(folder)}
        (folder / "bin").mkdir()
        self.set()
        (folder / "program").write_text(PROGRAM)
        for name, text in {"go": GO, "gcc": GCC, "pkg-config": "#!/bin/sh\n"}.items():
            self.add(name, text)

    def set(self, **settings: str) -> None:
        self._settings |= settings
        lines = [f"{name}='{value}'" for name, value in self._settings.items()]
        (self.folder / "settings").write_text("\n".join(lines) + "\n")

    def add(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        first, _, rest = text.partition("\n")
        path.write_text(f"{first}\n. {self.folder}/settings\n{rest}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def calls(self, verb: str) -> list[str]:
        log = self.folder / "go"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.startswith(f"{verb} ")]


@pytest.fixture
def toolchain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toolchain:
    folder = tmp_path / "toolchain"
    folder.mkdir()
    for name in ("GOCACHE", "GOMODCACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
    return Toolchain(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "kit")


@pytest.fixture(autouse=True)
def _strict_umask() -> Iterator[None]:
    """What the kit makes must be readable by everybody under any umask."""
    before = os.umask(0o077)
    yield
    os.umask(before)
