"""The dashboard's entry script: `streamlit run dashboards/server.py -- STUDY_DIRECTORY`, or `fipo dashboard`."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

from dashboards import source, states
from dashboards.views import (
    compare,
    completions,
    export,
    length_accuracy,
    opened,
    overview,
    parameters,
    pruning,
    training,
)
from trainer.errors import UserError

PAGES = (
    (overview, "Overview", "", ":material/dashboard:"),
    (length_accuracy, "Length-accuracy", "length-accuracy", ":material/show_chart:"),
    (training, "Training dynamics", "training", ":material/monitoring:"),
    (parameters, "Hyperparameters", "hyperparameters", ":material/tune:"),
    (pruning, "Pruning", "pruning", ":material/content_cut:"),
    (compare, "Compare", "compare", ":material/compare_arrows:"),
    (completions, "Completions", "completions", ":material/format_color_text:"),
    (export, "Export", "export", ":material/download:"),
)


def main(directory: Path) -> None:
    """Read the study in `directory`, lay out the page that the URL names, and watch for changes."""
    # A local icon: the pages' own would be fetched from a font server.
    icon = str(Path(__file__).with_name("data") / "icon.svg")
    st.set_page_config(page_title=f"{directory.name} · FIPO study", page_icon=icon, layout="wide")
    st.html("<style>.stMainBlockContainer{padding-top:3rem}</style>")
    reading = source.reader(directory).latest()

    def page(module: object) -> None:
        if isinstance(reading.found, UserError):
            states.unreadable(directory, reading.found)
            return
        states.sidebar(reading.found)
        if states.ready(reading.found):
            module.render(reading.found)  # type: ignore[attr-defined]

    pages = {
        path: st.Page(lambda module=module: page(module), title=title, icon=icon, url_path=path, default=not path)
        for module, title, path, icon in PAGES
    }
    st.session_state[opened.PAGES] = pages
    st.navigation(list(pages.values())).run()
    source.watch(directory, reading.stamp)


main(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve())
