"""Imports run one way, trainer <- study <- dashboards, and in no circle."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def modules(package: str) -> dict[str, Path]:
    """Path by dotted name of everything in a package."""
    paths = {path.relative_to(ROOT).with_suffix(""): path for path in (ROOT / package).rglob("*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in paths.items()}


def imported(path: Path) -> set[str]:
    """What a file imports, also in its functions and for the type checker."""
    found: set[str] = set()
    for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(each, ast.ImportFrom) and each.module:
            found |= {each.module, *(f"{each.module}.{name.name}" for name in each.names)}
        elif isinstance(each, ast.Import):
            found |= {name.name for name in each.names}
    return found


@pytest.mark.parametrize(
    ("package", "barred"),
    [
        ("trainer", ["study", "dashboards", "ray", "optuna", "streamlit", "plotly", "vllm"]),
        ("study", ["dashboards", "streamlit", "torch", "transformers"]),
    ],
)
def test_no_module_of_a_package_loads_what_stands_above_it(package: str, barred: list[str]) -> None:
    """In a process of its own, so that `sys.modules` tells what importing every module of the package loads."""
    code = (
        f"import importlib, sys\nfor name in {sorted(modules(package))}: importlib.import_module(name)\n"
        f"loaded = set({barred}) & set(sys.modules)\nassert not loaded, loaded"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr[-500:]


@pytest.mark.parametrize(("package", "above"), [("trainer", {"study", "dashboards"}), ("study", {"dashboards"})])
def test_not_even_a_function_imports_from_above(package: str, above: set[str]) -> None:
    for name, path in modules(package).items():
        assert not above & {found.split(".")[0] for found in imported(path)}, name


def test_one_file_imports_vllm() -> None:
    """The others do without it, so that a change of its interface is mended in one place."""
    known = modules("trainer") | modules("study") | modules("dashboards")
    homes = {name for name, path in known.items() if any(each.split(".")[0] == "vllm" for each in imported(path))}
    assert homes == {"trainer.vllm_rollout"}


def test_no_circle_of_imports() -> None:
    """Not even by way of a function or of the type checker."""
    known = modules("trainer") | modules("study") | modules("dashboards")
    graph = {name: imported(path) & set(known) - {name} for name, path in known.items()}
    packages = {name for name, path in known.items() if path.stem == "__init__"}
    for name, found in graph.items():  # `from package import module` is of the module, which its own package may load
        graph[name] = {each for each in found if each not in packages or not name.startswith(f"{each}.")}
    list(graphlib.TopologicalSorter(graph).static_order())
