"""The pages: the script that Streamlit runs anew for every view of the dashboard.

`serve` starts the server as a process, `server` is the application in it, and this is what that application shows.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import streamlit as st

from dashboards import source, states
from dashboards.catalogue import entries
from dashboards.optuna_study import OptunaStudy
from dashboards.views import (
    bare,
    compare,
    completions,
    export,
    length_accuracy,
    overview,
    parameters,
    pruning,
    training,
    widgets,
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
OPENED = "opened"  # where the session keeps the study that it shows
STYLE = """<style>
.stMainBlockContainer{padding-top:3rem}
@media(min-width:900px){.stMainBlockContainer{padding-left:3rem;padding-right:3rem}}
.st-key-cards{align-items:stretch!important}
.st-key-cards>*{flex:1 1 10rem!important;min-width:10rem;height:auto!important}
.st-key-cards [data-testid=stMetric]{height:100%}
.st-key-cards [data-testid=stMetric]>div{padding:.7rem .8rem}
.st-key-cards [data-testid=stMetricValue]{font-size:1.6rem}
.st-key-cards [data-testid=stMetricValue] *,.st-key-cards [data-testid=stMetricLabel] *,
.st-key-cards [data-testid=stMetricDelta] *{white-space:normal;overflow:visible;text-overflow:clip}
[class*=st-key-panels] [data-testid=stHorizontalBlock]{flex-wrap:wrap}
[class*=st-key-panels] [data-testid=stColumn]{min-width:calc(33.3% - 1rem);flex-grow:0}
@media(max-width:1100px){.st-key-pair [data-testid=stColumn]{min-width:100%}
[class*=st-key-panels] [data-testid=stColumn]{min-width:calc(50% - 1rem)}}
@media(max-width:640px){[class*=st-key-panels] [data-testid=stColumn]{min-width:100%}}
</style>"""


def main(places: Sequence[str]) -> None:
    """Read the study that the URL names, lay out the page that it names, and watch for changes."""
    # A local icon: the pages' own would be fetched from a font server.
    icon = str(Path(__file__).with_name("data") / "icon.svg")
    st.set_page_config(page_title="FIPO study", page_icon=icon, layout="wide")
    st.html(STYLE)
    try:
        known, trouble = entries(places), None
    except UserError as error:
        known, trouble = [], error
    entry = widgets.choose_study(known)
    if entry is None:
        states.unreadable(places, trouble)
        source.watch(places, known, None, 0)
        return
    with st.spinner("Reading the study", show_time=True):
        reader = source.reader(entry)
        reading = reader.latest() if st.session_state.get(OPENED) == entry else reader.current()
    st.session_state[OPENED] = entry
    st.set_page_config(page_title=f"{entry.name} · FIPO study")

    def page(module: ModuleType) -> None:
        if isinstance(reading.found, UserError):
            states.unreadable([entry.shown], reading.found)
        elif isinstance(reading.found, OptunaStudy):
            bare.render(reading.found)
        else:
            states.sidebar(reading.found)
            if states.ready(reading.found):
                module.render(reading.found)

    pages = {
        path: st.Page(lambda module=module: page(module), title=title, icon=icon, url_path=path, default=not path)
        for module, title, path, icon in PAGES
    }
    st.session_state[widgets.PAGES] = pages
    # A study of which only Optuna's trials are known has one page.
    position = "hidden" if isinstance(reading.found, OptunaStudy) else "sidebar"
    st.navigation(list(pages.values()), position=position).run()
    source.watch(places, known, entry, reading.version)


if __name__ == "__main__":
    main(sys.argv[1:] or ["."])
