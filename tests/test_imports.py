"""Imports run one way, trainer <- study <- dashboards, and in no circle."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def modules(package: str) -> dict[str, Path]:
    """Path by dotted name of everything in a package."""
    paths = {path.relative_to(ROOT).with_suffix(""): path for path in (ROOT / package).rglob("*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in paths.items()}


def imported(statements: Iterable[ast.stmt]) -> Iterator[str]:
    """What a module imports when it is imported itself: not in functions, not for the type checker."""
    for each in statements:
        if isinstance(each, ast.ImportFrom) and each.module:
            yield each.module
            yield from (f"{each.module}.{name.name}" for name in each.names)
        elif isinstance(each, ast.Import):
            yield from (name.name for name in each.names)
        elif isinstance(each, ast.If) and ast.unparse(each.test) != "TYPE_CHECKING":
            yield from imported(each.body)


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
        for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(each, ast.Import | ast.ImportFrom):
                assert not above & {found.split(".")[0] for found in imported([each])}, name


def test_one_file_imports_vllm() -> None:
    """The others do without it, so that a change of its interface is mended in one place."""
    homes = {
        name
        for package in ("trainer", "study", "dashboards")
        for name, path in modules(package).items()
        for each in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(each, ast.Import | ast.ImportFrom) and any(n.split(".")[0] == "vllm" for n in imported([each]))
    }
    assert homes == {"trainer.vllm_rollout"}


def test_no_circle_of_imports() -> None:
    known = modules("trainer") | modules("study") | modules("dashboards")
    graph = {
        name: set(imported(ast.parse(path.read_text(encoding="utf-8")).body)) & set(known) - {name}
        for name, path in known.items()
    }
    packages = {name for name, path in known.items() if path.stem == "__init__"}
    for name, found in graph.items():  # `from package import module` is of the module, which its own package may load
        graph[name] = {each for each in found if each not in packages or not name.startswith(f"{each}.")}
    list(graphlib.TopologicalSorter(graph).static_order())
