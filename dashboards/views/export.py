"""Export: a trial's configuration for every trainer that `fipo export` knows, to look at and to download."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import streamlit as st

from dashboards import text
from dashboards.source import Study
from dashboards.views.widgets import IN_URL, anew
from study.directory import typed
from trainer.errors import UserError
from trainer.presets import preset_names

if TYPE_CHECKING:
    from study.export import Export
    from study.results import TrialResult

LANGUAGES = {".yaml": "yaml", ".sh": "bash", ".json": "json", ".html": "html"}
AS_RUN = "as the trial ran"
PREVIEW_LINES, PREVIEW_CHARACTERS = 200, 40_000
NEAREST = "Take the nearest"
OPTIONS = {
    "add --approximate to take the nearest": f"switch on “{NEAREST}”",
    "with --preset ": "under “Scale”: ",
}
"""What the study's errors tell to do on a command line, and where that is on this page."""
SCALE_HELP = "A preset is the paper's model, data, lengths, batches and optimizer, with FIPO's part of the trial."
APPROXIMATE_HELP = "Where the target cannot say what the trial did, take the nearest; the file says so at its top."


def render(study: Study) -> None:
    """Choose target and trial; then what had to be approximated or why it is refused, the file, and the command."""
    from study.export import TARGETS, TRAINERS  # the page alone pays for its import

    st.title("Export")
    left, right, last = st.columns(3)
    target = left.selectbox("Target", list(TARGETS), key="target", format_func=lambda key: TARGETS[key].title, **IN_URL)
    whole = TARGETS[target].whole_study
    number = None if whole else _trial(study, right)
    if number is None and not whole:
        st.info("No trial has come to an evaluation yet: there is nothing to choose.")
        return
    preset, approximate = None, False
    if target in ("yaml", *TRAINERS):
        scale = last.selectbox("Scale", [AS_RUN, *preset_names()], key="scale", help=SCALE_HELP, **IN_URL)
        preset = None if scale == AS_RUN else scale
    if target in TRAINERS:
        approximate = st.toggle(NEAREST, key="approximate", help=APPROXIMATE_HELP, **IN_URL)
    command = f"{typed('export', _shown(study.results.directory))} --to {target}"
    command += f" --trial {number}" if number is not None else ""
    command += (f" --preset {preset}" if preset else "") + (" --approximate" if approximate else "")
    if target == "hf":
        st.info("Weights are a directory: write them with this command, where the study lies.")
    else:
        _file(study, target, number, approximate=approximate, preset=preset)
    st.caption("The same on the command line")
    st.code(command, language="bash", wrap_lines=True)


def _shown(directory: Path) -> Path:
    """As a user who stands where the dashboard was started would write it."""
    here = Path.cwd()
    return directory.relative_to(here) if directory.is_relative_to(here) else directory


def _trial(study: Study, column: st.delta_generator.DeltaGenerator) -> int | None:
    """The trial to export, the best one unless chosen; None while there is none."""
    begun = study.trials.filter(pl.col("trial").is_in(study.evaluations["trial"].unique().to_list()))
    labels = dict(begun.select("trial", "label").iter_rows())
    states = dict(begun.select("trial", "state").iter_rows())
    if not labels:
        return None
    best = study.results.best
    usual = anew(study, "trial", best.number if best and best.number in labels else next(iter(labels)))
    number = column.selectbox(
        "Trial",
        list(labels),
        index=list(labels).index(usual),
        key="trial",
        format_func=lambda each: _name(each, labels, best),
        **IN_URL,
    )
    if states[number] != "COMPLETE":
        st.warning(f"This trial is {states[number].lower()}: its accuracy comes from fewer steps than planned.")
    return number


def _name(number: int, labels: dict[int, str], best: TrialResult | None) -> str:
    return labels[number] + (", best" if best is not None and best.number == number else "")


def _file(study: Study, target: str, number: int | None, *, approximate: bool, preset: str | None) -> None:
    try:
        export = prepared(study, target, number, approximate=approximate, preset=preset)
    except UserError as error:
        st.error(text.in_markdown(on_page(str(error))), icon=":material/block:")
        return
    for gap in export.gaps:
        st.warning(text.in_markdown(f"Approximated: {gap}"), icon=":material/approximation:")
    assert export.text is not None
    name = export.path.name
    icon = ":material/download:"
    st.download_button(f"Download {name}", export.text, file_name=name, icon=icon, type="primary", on_click="ignore")
    if target == "report":
        st.caption(f"{len(export.text.encode()) / 1e6:.1f} MB; opens in any browser, without a network.")
        return
    shown, whole = preview(export.text)
    language = LANGUAGES.get(export.path.suffix)
    st.code(shown, language=language, height=480, wrap_lines=True)
    if not whole:
        st.caption("The beginning; the download has all of it.")


def on_page(message: str) -> str:
    """A refusal with this page's switches in place of the options of `fipo export`."""
    for option, switch in OPTIONS.items():
        message = message.replace(option, switch)
    return message


def prepared(
    study: Study, target: str, number: int | None, *, approximate: bool = False, preset: str | None = None
) -> Export:
    """What `fipo export` would write, under the name it would have. Raises UserError where the target refuses."""
    from study.export import TARGETS, prepare

    name = "trials" if number is None else f"{study.results.spec.name}-trial-{number:04d}"
    with tempfile.TemporaryDirectory() as empty:  # `prepare` refuses names that exist; nothing is written there
        out = Path(empty) / (name + TARGETS[target].suffix)
        options = {"number": number, "approximate": approximate, "preset": preset, "out": out}
        (export,) = prepare(study.results, target, **options)
    return export


def preview(text: str) -> tuple[str, bool]:
    """The first lines of a file, and whether they are all of it."""
    shown = "\n".join(text[:PREVIEW_CHARACTERS].splitlines()[:PREVIEW_LINES])
    return shown, len(shown) >= len(text.rstrip("\n"))
