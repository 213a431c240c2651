"""Widgets that several pages share; their state lives in the address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import streamlit as st

from dashboards import filters, frames, text
from dashboards.catalogue import Entry
from dashboards.source import Study

ORDER = ("RUNNING", "STOPPED", "COMPLETE", "PRUNED", "FAIL", "WAITING")
"""States as a reader meets them."""
STUDY, CHOICE, PAGES = "study", "choice", "pages"
"""Keys of the session: the name of the study that is shown (in the address too), the selectbox that changes it, and the
pages by their path, which `app` sets since a link needs them."""
IN_URL: Any = {"bind": "query-params", "persist_state": "session"}


@dataclass(frozen=True)
class Filtered:
    """What the filters leave."""

    trials: list[int]
    steps: tuple[int, int]
    """First and last training step."""


def is_dark() -> bool:
    """Whether the browser shows the page in the dark theme."""
    return st.context.theme.type == "dark"


def choose_study(known: Sequence[Entry]) -> Entry | None:
    """The study that the address names, else the one shown before, else the first of `known`; None without any.

    Where there are several, a selectbox in the sidebar changes it, and the address always says which: the first of the
    list is another one as soon as a study begins. An address that names a study that is not here is kept, and told.
    """
    names = {each.name: each for each in known}
    asked = st.query_params.get(STUDY)
    current = next((name for name in (asked, st.session_state.get(STUDY), *names) if name in names), None)
    st.session_state[STUDY] = current
    if current is None:
        return None
    if asked is not None and asked not in names:
        gone, here = text.in_markdown(asked), text.in_markdown(current)
        st.warning(f"The address names the study {gone}, which is not here (any more). This is {here}.")
    if len(names) > 1:
        st.session_state[CHOICE] = current
        st.sidebar.selectbox("Study", list(names), key=CHOICE, on_change=_turn)
        if asked is None:
            st.query_params[STUDY] = current
    return names[current]


def _turn() -> None:
    """Chosen trials and states belong to the study that is left; how charts are drawn does not. See `anew` too."""
    st.query_params[STUDY] = st.session_state[CHOICE]
    for key in ("trials", "states"):
        if key in st.session_state:
            st.session_state[key] = []


def anew(study: Study, key: str, usual: Any) -> Any:
    """Have the widget `key` show `usual`, which is returned, where it was shown for another study before.

    Assigned, since a browser goes on showing what is only deleted here.
    """
    home, of = str(study.results.directory), f"study of {key}"
    if st.session_state.get(of, home) != home:
        st.session_state[key] = usual
    st.session_state[of] = home
    return usual


def choose_parameter(place: Any, name: str, options: Sequence[str], study: Study, *, key: str, help: str) -> str:
    """A selectbox of parameters on `place`, at first the first of `options`, and anew where another study is opened."""
    anew(study, key, options[0])
    return str(place.selectbox(name, options, key=key, format_func=text.label, help=help, **IN_URL))


def choose_trials(
    study: Study, *, most: int | None = None, placeholder: str = "all trials", complete: bool = False
) -> list[int]:
    """A multiselect of trials by label. Left empty: all, or with `most` the best, the controls and the newest.

    Args:
        complete: left empty, leave out what has not come to its last step, where two trials have, and take the next
            best in place of the newest.
    """
    labels = dict(study.trials.select("trial", "label").iter_rows())
    chosen = st.multiselect(
        "Trials", list(labels), key="trials", format_func=labels.__getitem__, placeholder=placeholder, **IN_URL
    )
    if most is not None and len(chosen) > most:
        left_out = ", ".join(labels[number] for number in chosen[most:])
        st.caption(text.in_markdown(f"Of {len(chosen)} chosen trials the first {most} are shown, without {left_out}."))
    if chosen or most is None:
        return chosen[:most]
    best = study.results.best
    usual = study.trials.filter(frames.SEARCH).drop_nulls("started").sort("started")
    ended = usual.filter(pl.col("state") == "COMPLETE")
    if complete and ended.height > 1:
        usual = ended
    controls, others = usual.drop_nulls("control")["trial"].to_list(), usual["trial"].to_list()[::-1]
    if usual is ended:
        others = [each.number for each in study.results.evidence]
    return list(dict.fromkeys([*([best.number] if best else []), *controls, *others]))[: min(4, most)]


def filter_trials(study: Study) -> Filtered:
    """A popover of filters: state, steps, and a range of every numeric parameter. The address carries what is set."""
    varying = frames.parameters(study.trials)
    sliders = {key: filters.stops(space) for key, space in study.results.spec.space.items() if key in varying}
    bounds = {}
    with st.popover("Filters", icon=":material/filter_alt:", width="stretch"):
        states = st.pills("State", ORDER, selection_mode="multi", key="states", format_func=str.lower, **IN_URL)
        whole = anew(study, "steps", (0, study.steps))
        steps = st.slider("Training steps", 0, study.steps, whole, key="steps", **IN_URL)
        st.caption("Ranges of sampled values; controls stay whatever the ranges.")
        for key, stops in sliders.items():
            if stops:
                bounds[key] = st.select_slider(
                    text.widget_label(key), stops, value=anew(study, key, (stops[0], stops[-1])), key=key,
                    format_func=text.number, **IN_URL,
                )  # fmt: skip
    narrowed = {key: ends for key, ends in bounds.items() if ends != (sliders[key][0], sliders[key][-1])}
    left = filters.kept(study.trials, states=states, bounds=narrowed)
    said = [f"{len(left)} of {study.trials.height} trials"] if states or narrowed else []
    said += [f"steps {steps[0]} to {steps[1]}"] if steps != (0, study.steps) else []
    if said:
        st.caption(", ".join(said) + ".")
    return Filtered(left, steps)
