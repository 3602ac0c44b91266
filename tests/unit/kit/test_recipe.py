import shutil
from pathlib import Path

import pytest

from pilvi.kit.recipe import MODULES, find_recipes


def add_minor(modules: Path, minor: str, version: str) -> None:
    shutil.copytree(modules / "kubernetes-1.37", modules / f"kubernetes-{minor}")
    path = modules / f"kubernetes-{minor}" / "go.mod"
    path.write_text(path.read_text().replace("k8s.io/kubernetes v1.37.2", f"k8s.io/kubernetes {version}"))


def test_every_program_has_its_module_in_go_mod_and_its_sum() -> None:
    for recipe in find_recipes():
        go_mod, go_sum = ((recipe.folder / name).read_text() for name in ("go.mod", "go.sum"))
        for program in recipe.programs:
            if program.package.startswith("./") or program.package.endswith(".c"):
                folder = recipe.folder / program.package if program.package.startswith("./") else (recipe.folder / program.package).parent
                assert folder.is_dir(), program.name
                assert any(folder.is_relative_to(recipe.folder / source) for source in recipe.sources), program.name
                continue
            parents = [program.package, *(str(parent) for parent in Path(program.package).parents)]
            assert any(f"{module} v" in go_mod and f"\n{module} v" in f"\n{go_sum}" for module in parents), program.package


def test_names_are_unique() -> None:
    names = [name for recipe in find_recipes() for name in recipe.names()]
    assert len(names) == len(set(names))


def test_links_point_to_programs() -> None:
    for recipe in find_recipes():
        assert set(recipe.links.values()) <= {program.name for program in recipe.programs}


@pytest.mark.parametrize("minor", ["1.9", "1.36", "1.38"])
def test_a_second_minor_is_one_more_folder(tmp_path: Path, minor: str) -> None:
    shutil.copytree(MODULES, tmp_path / "modules")
    add_minor(tmp_path / "modules", minor, f"v{minor}.5")
    recipes = {recipe.name: recipe for recipe in find_recipes(tmp_path / "modules")}
    assert {f"kubernetes-{minor}", "kubernetes-1.37"} <= set(recipes)
    assert recipes[f"kubernetes-{minor}"].stamps["k8s.io/component-base/version.gitMinor"] == minor.split(".")[1]
    newest = max(("1.37", minor), key=lambda text: int(text.split(".")[1]))
    assert next(iter(recipes)) == f"kubernetes-{newest}"  # the newest first, by number and not by text
