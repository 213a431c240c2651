"""What README and docs tell a reader to type, open and write exists: commands, options, keys, paths, links."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from study.cli import app
from study.commands import LIVE
from study.export import TARGETS
from study.keys import check_key
from study.overrides import apply_set, assignment
from study.spec import StudySpec
from trainer.presets import preset_names

ROOT = Path(__file__).parents[2]
PAGES = [path for name in ("*.md", "docs/*.md", "benchmarks/*.md") for path in sorted(ROOT.glob(name))]
OURS = ("trainer", "study", "dashboards", "search_spaces", "tests", "benchmarks", "docs")
OTHERS = ("ray", "pip", "source", "export", "git", "cd", "ssh", "apt-get", "pre-commit", "pytest", "ruff", "pyrefly")
"""Programs of others, whose arguments are theirs."""
FIPO = typer.main.get_command(app)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Page and line of every command in a bash block."""
    lines = [
        (page.relative_to(ROOT).as_posix(), line.strip())
        for page in PAGES
        for block in blocks(page, "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [(page, line) for page, line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_in_the_docs_can_be_typed(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    missing = [word for word in words if word.split("/")[0] in OURS and "/" in word and not list(ROOT.glob(word))]
    assert not missing, "no such file here"
    if words[0] == "fipo":
        fipo(words[1:])
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif "-m" in words and words[0] in ("python", "torchrun"):
        module(words[words.index("-m") + 1 :])
    else:
        assert words[0] in OTHERS or (words[0] == "python" and (ROOT / words[1]).exists())


def test_every_example_of_the_help_can_be_typed() -> None:
    for command in FIPO.commands.values():
        fipo(shlex.split(command.epilog.removeprefix("Example:"))[1:])


def test_every_export_target_is_named_by_the_help_and_the_readme() -> None:
    (option,) = (each for each in FIPO.commands["export"].params if each.name == "to")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [name for name in TARGETS if name not in re.split(r"[ ,.]+", option.help) or f"`{name}`" not in readme]


def fipo(words: list[str]) -> None:
    """Parse as the command line does, without running it; then look at what only the command itself would."""
    context = typer.Context(FIPO, info_name="fipo")
    name, command, rest = FIPO.resolve_command(context, list(words))
    try:
        given = command.make_context(name, rest, parent=context).params
    except typer.Exit:  # --help
        return
    assert given.get("to") in (None, *TARGETS)
    assert given.get("preset") in (None, *preset_names())
    spec = given.get("spec") if str(given.get("spec")).startswith("search_spaces") else None
    data = yaml.safe_load((ROOT / (spec or "search_spaces/tiny.yaml")).read_text(encoding="utf-8"))
    for text in given.get("sets") or []:
        apply_set(data, text)
    if name == "set":
        for text in given["values"]:
            assert assignment(text, "set")[0].split(".")[0] in LIVE
            apply_set(data, text)
    if name == "enqueue":
        for text in given["values"]:
            check_key(assignment(text, "enqueue")[0], "enqueue")
    valid(data)


def module(words: list[str]) -> None:
    """The module is there, and its source names every option."""
    found = importlib.util.find_spec(words[0])
    assert found is not None and found.origin is not None
    path = Path(found.origin)
    source = (path.with_name("__main__.py") if path.name == "__init__.py" else path).read_text(encoding="utf-8")
    assert not [word for word in words if word.startswith("--") and f'"{word}"' not in source]


def valid(data: dict) -> None:
    spec = StudySpec.model_validate(data)
    spec.config({key: distribution.ends()[0] for key, distribution in spec.space.items()})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in blocks(page, "yaml"):
        valid(yaml.safe_load(block))
    assert set(re.findall(r"`fipo ([a-z]+)", text)) <= set(FIPO.commands)
    assert all(importlib.util.find_spec(name) for name in re.findall(r"`python -m ([\w.]+)", text))
    paths = re.findall(rf"`((?:{'|'.join(OURS)})/[\w./-]+\.\w+)`", text)
    assert not [path for path in paths if not (ROOT / path).exists()]
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        other = (page.parent / name) if name else page
        assert other.exists(), target
        assert not anchor or anchor in slugs(other), target


def slugs(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
