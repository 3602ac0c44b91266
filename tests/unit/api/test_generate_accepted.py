"""The development tool that turns an upstream definition into struct code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from pilvi.api import core, field
from pilvi.api.crd import crd_of, schema_of
from pilvi.api.kubeovn import Subnet

TOOL = Path(__file__).parents[3] / "tools/generate_accepted.py"


def test_the_code_has_the_names_and_types_of_the_definition(tmp_path: Path) -> None:
    crd = crd_of(Subnet)
    (tmp_path / "crd.yaml").write_text(yaml.safe_dump(crd))
    done = subprocess.run([sys.executable, TOOL, tmp_path / "crd.yaml", "--path", "spec"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "LabelSelector" in done.stdout
    assert "class LabelSelector" not in done.stdout
    names: dict[str, Any] = {**vars(core), **vars(field), "Annotated": Annotated, "Any": Any, "Literal": Literal}
    exec(compile(done.stdout, "generated", "exec", dont_inherit=True), names)  # noqa: S102
    wanted = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert without_descriptions(schema_of(names["Spec"])) == without_descriptions(wanted)


def without_descriptions(schema: dict[str, Any]) -> dict[str, Any]:
    out = {}
    for name, value in schema.items():
        if name == "properties":
            out[name] = {key: without_descriptions(sub) for key, sub in value.items()}
        elif isinstance(value, dict):
            out[name] = without_descriptions(value)
        elif name != "description":
            out[name] = value
    return out
