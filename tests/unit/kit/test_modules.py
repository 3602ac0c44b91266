import shutil
from pathlib import Path

import msgspec
import pytest

from pilvi.errors import Bug
from pilvi.kit.modules import compute_key, get_version, go_version, linker_flags, read_requirements
from pilvi.kit.recipe import MODULES, Program, Recipe, find_recipes


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    folder = tmp_path / "thing"
    (folder / "main").mkdir(parents=True)
    (folder / "go.mod").write_text(
        "module x\n\ngo 1.26.6\n\nrequire example.org/one v1.0.0\n\nrequire (\n\texample.org/two/v2 v2.3.4 // indirect\n"
        "\texample.org/old v0.0.0\n)\n\nreplace example.org/old => example.org/new v0.9.0\n"
    )
    (folder / "go.sum").write_text("sums\n")
    (folder / "main/main.go").write_text("package main\n")
    programs = (Program(name="one", package="./main"),)
    stamps = {"example.org/v.Version": "{example.org/two/v2}", "v.Minor": "37"}
    return Recipe(name="thing", folder=folder, programs=programs, sources=("main",), stamps=stamps, memory_mb=1, disk_mb=1)


def test_versions_are_read_from_go_mod(recipe: Recipe) -> None:
    assert read_requirements(recipe.folder) == {"example.org/one": "v1.0.0", "example.org/two/v2": "v2.3.4", "example.org/old": "v0.9.0"}
    assert go_version(recipe.folder) == (1, 26, 6)
    with pytest.raises(Bug, match=r"requires no module example\.org/none"):
        get_version(recipe.folder, "example.org/none")


def test_stamps_get_the_pinned_version(recipe: Recipe) -> None:
    assert linker_flags(recipe) == "-s -w -X example.org/v.Version=v2.3.4 -X v.Minor=37"


def test_kubernetes_reports_its_version() -> None:
    (kubernetes,) = [recipe for recipe in find_recipes() if recipe.name == "kubernetes-1.37"]
    assert "-X k8s.io/component-base/version.gitVersion=v1.37." in linker_flags(kubernetes)


@pytest.mark.parametrize("changed", ["go.mod", "go.sum", "main/main.go"])
def test_key_changes_with_every_source(recipe: Recipe, changed: str) -> None:
    before = compute_key(recipe)
    with (recipe.folder / changed).open("a") as file:
        file.write("// more\n")
    assert compute_key(recipe) != before


def test_key_changes_with_the_recipe(recipe: Recipe) -> None:
    changed = msgspec.structs.replace(recipe, programs=(Program(name="one", package="./main", tags=("seccomp",)),))
    assert compute_key(changed) != compute_key(recipe)


def test_key_ignores_tests_costs_and_place(recipe: Recipe, tmp_path: Path) -> None:
    before = compute_key(recipe)
    (recipe.folder / "main/main_test.go").write_text("package main\n")
    (recipe.folder / "elsewhere").mkdir()
    (recipe.folder / "elsewhere/other.go").write_text("package other\n")
    moved = shutil.copytree(recipe.folder, tmp_path / "moved")
    assert compute_key(msgspec.structs.replace(recipe, folder=moved, memory_mb=99, disk_mb=99)) == before


def test_a_source_that_moves_between_files_changes_the_key(recipe: Recipe) -> None:
    before = compute_key(recipe)
    (recipe.folder / "main/main.go").rename(recipe.folder / "main/other.go")
    assert compute_key(recipe) != before


def test_machine_programs_do_not_rebuild_the_node_programs(tmp_path: Path) -> None:
    shutil.copytree(MODULES, tmp_path / "modules")
    before = {recipe.name: compute_key(recipe) for recipe in find_recipes(tmp_path / "modules")}
    (tmp_path / "modules/node/node-init/added.go").write_text("package main\n")
    after = {recipe.name: compute_key(recipe) for recipe in find_recipes(tmp_path / "modules")}
    assert [name for name in before if before[name] != after[name]] == ["machine"]
