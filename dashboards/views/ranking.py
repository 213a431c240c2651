"""The parameters of a study in the order of their importance: what every page colours and lays out by, unless told."""

from __future__ import annotations

import contextlib

import polars as pl
import streamlit as st

from dashboards import frames, importance, scores, surface
from dashboards.source import Reader, Study
from study.results import StudyResults

HELP = """At first the most important parameter, as the Hyperparameters page has it; where no parameter explains
more than chance, or trials are too few to tell, the half-life (γ where it is swept and a trial has no half-life)."""


def ranked(study: Study) -> list[str]:
    """The keys of `frames.parameters`, the most important first, at the step where Hyperparameters opens."""
    keys = frames.parameters(study.trials)
    counts = scores.steps(study.evaluations, study.sets[0]) if study.sets else {}
    if len(keys) < 2 or not counts:
        return keys
    step = scores.usual_step(counts, enough=surface.FEWEST)
    return ordered(study, keys, compared(study, step))


def warm(reader: Reader) -> None:
    """Read the study, and compute the order, ahead of the first page. What goes wrong, that page says."""
    with contextlib.suppress(Exception):
        found = reader.latest().found
        if isinstance(found, Study):
            ranked(found)


def compared(study: Study, step: int) -> pl.DataFrame:
    """The trials at a training step by what the study maximizes (`scores.at_step`), of which only what is swept is
    another: a control with other settings, beside the space, is none of them."""
    metric = study.results.spec.metric
    apart = [trial.number for trial in study.results.trials if trial.unswept]
    found = scores.at_step(study.trials, study.evaluations, set_name=study.sets[0], step=step, metric=metric)
    return found.filter(~pl.col("trial").is_in(apart))


def ordered(study: Study, keys: list[str], known: pl.DataFrame) -> list[str]:
    """`keys` by what they explain of the trials of `compared`; as they are where those are too few to tell."""
    if importance.usable(study.results, scores.by_configuration(known)).height < importance.TRUSTED:
        return keys
    return importance.ranked(keys, shares(study, known))


def shares(study: Study, known: pl.DataFrame) -> pl.DataFrame:
    """`importance.importance` of the configurations of `compared`, computed once for all pages."""
    configurations = scores.by_configuration(known).select("trial", "score")
    return _shares(study.results, str(study.results.directory), configurations)


@st.cache_data(max_entries=8, show_spinner="Computing importance")
def _shares(_results: StudyResults, directory: str, known: pl.DataFrame) -> pl.DataFrame:
    return importance.importance(_results, known)
