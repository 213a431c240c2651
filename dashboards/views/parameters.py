"""Hyperparameters: what gamma, the influence bounds and the rest do, and whether the differences mean anything."""

from __future__ import annotations

import polars as pl
import streamlit as st

from dashboards import differences, frames, scores, surface, text
from dashboards import importance as importances
from dashboards.figures import parameters as figures
from dashboards.figures import plane
from dashboards.figures.parallel import parallel_coordinates, thinned
from dashboards.source import Study
from dashboards.views import ranking
from dashboards.views.widgets import IN_URL, choose_parameter, is_dark
from study.seeds import seeds_against_settings
from study.tables import beside_space, counted
from study.verdict import tied

SEEDS = "A confirmed configuration counts once, by the mean of its fresh seeds."
NEXT_HELP = "At first the next most important one."
STEP_HELP = "Everything on this page compares trials at this step. A pruned one counts as long as it ran."


def render(study: Study) -> None:
    """The step to compare at, the verdict in words; then the map of two parameters, slices, lines, importance."""
    st.title("Hyperparameters")
    set_name = study.sets[0]
    counts = scores.steps(study.evaluations, set_name)
    keys = frames.parameters(study.trials)
    if not counts or not keys:
        st.info(
            "No key of the space has taken two values: Compare shows what else trials differ in."
            if counts
            else "No trial has been evaluated after a step yet."
        )
        return
    step = _step(counts)
    known = ranking.compared(study, step)
    if known.is_empty():
        st.info(f"No trial of which only what is swept is another has been evaluated yet.{_apart(study)}")
        return
    keys = ranking.ordered(study, keys, known)
    _verdict(study, known, step, max(counts))
    measure = study.results.metric_name
    if len(_without_twin(keys)) > 1:
        _plane(study, known, keys, measure)
    st.subheader("One at a time")
    shown = _without_twin(keys)
    for column, key in zip(st.container(key="panels").columns(len(shown)), shown, strict=True):
        figure = figures.slice_of(known, key, measure=measure, dark=is_dark())
        column.plotly_chart(figure, key=f"slice-{key}", alt=f"{measure} against {text.label(key)}")
    st.subheader("All together")
    drawn = thinned(known)
    figure = parallel_coordinates(drawn, shown, measure=measure, dark=is_dark())
    st.plotly_chart(figure, key="parallel", alt="One line per trial through all its values")
    some = f"{drawn.height} of {known.height} trials, evenly from best to worst"
    st.caption(
        f"{some if drawn.height < known.height else counted(known.height, 'trial')}; the lighter a line, the better."
    )
    _importance(study, known)


def _step(counts: dict[int, int]) -> int:
    if len(counts) == 1:
        return next(iter(counts))
    usual = scores.usual_step(counts, enough=surface.FEWEST)
    return st.select_slider("Compare at training step", list(counts), usual, key="at", help=STEP_HELP, **IN_URL)


def _without_twin(keys: list[str]) -> list[str]:
    """gamma and half-life are one quantity; the half-life spreads better, where all trials have one."""
    return [key for key in keys if key != "fipo.gamma" or "fipo.half_life" not in keys]


def _verdict(study: Study, known: pl.DataFrame, step: int, last: int) -> None:
    own = known.filter(frames.CONFIGURATION)  # the others are no other settings
    spread = differences.spread(own.rename({"score": "accuracy", "error": "sampling_error"}))
    where = f"at step {step}"
    evidence = study.results.evidence
    seeds = seeds_against_settings(evidence, number=text.points, unit=" points")
    alone = own.filter(~pl.col("trial").is_in([each.number for each in evidence if each.fresh])).height
    numbered = {trial.number: trial for trial in study.results.trials}
    results = [numbered[number].scores(study.sets[0])[step] for number in known["trial"]]
    line = tied(results, who="All trials", where="at this step")
    if line is not None and own.height > 1:
        st.warning(f"{line}.")
    elif own.height == 1:
        st.info(f"1 trial {where}: there is nothing to compare yet.")
    elif spread is None:
        none = f"; {study.results.metric_name} has no known sampling error"
        which = none if own["error"].is_null().all() else ", not all with a known sampling error"
        st.info(f"{own.height} trials {where}{which}: differences cannot be judged.")
    elif spread.beyond_sampling:
        said = f"{spread.trials} trials differ by more than sampling error {where} ({text.probability(spread.p)})."
        if alone:
            who = "Each" if alone == own.height else f"{alone} of them"
            said += f" {who} ran with one seed, which moves accuracy too: repeat what you choose with fresh seeds."
        st.info(said)
    else:
        st.warning(
            f"{spread.trials} trials do not differ beyond sampling error {where} ({text.probability(spread.p)}):"
            " no setting shown here is better than another."
        )
    if seeds:
        st.info(text.in_markdown(f"{seeds}."))
    apart = sum(bool(trial.unswept) for trial in study.results.trials)
    came = f"{known.height} of {study.trials.height - apart} trials were evaluated at step {step}"
    came += "" if step == last else f"; the last step is {last}"
    hidden = study.trials.filter(pl.col("state") == "PRUNED", ~pl.col("trial").is_in(known["trial"].to_list())).height
    verbs = ("was", "is") if hidden == 1 else ("were", "are")
    ended = f" {hidden} that {verbs[0]} pruned before it {verbs[1]} in no chart here." if hidden else ""
    st.caption(f"{came}.{ended}{_lost(study, known)}{_apart(study)}")


def _apart(study: Study) -> str:
    """Which trials are left out since they have settings beside the space. With a leading space."""
    labels = dict(study.trials.select("trial", "label").iter_rows())
    own = [trial for trial in study.results.trials if trial.unswept and trial.confirms is None]
    said = (f"{labels[trial.number]} is in nothing here, {beside_space(trial.beside)}." for trial in own)
    return "".join(f" {text.in_markdown(each)}" for each in said)


def _lost(study: Study, known: pl.DataFrame) -> str:
    """That seeds which ended before this step are in no mean: one over the survivors flatters. With a leading space."""
    missing = study.trials.filter(
        pl.col("confirms").is_not_null(),
        pl.col("state").is_in(["PRUNED", "FAIL"]),
        ~pl.col("trial").is_in(known["trial"]),
    )
    if missing.is_empty():
        return ""
    labels = dict(study.trials.select("trial", "label").iter_rows())
    of = ", ".join(labels[number] for number in missing["confirms"].unique().sort())
    count = f"{missing.height} fresh seed" + ("s" if missing.height > 1 else "")
    return f" {count} of {of} ended before it (collapsed, failed or stopped): the mean over fresh seeds is without."


def _plane(study: Study, known: pl.DataFrame, keys: list[str], measure: str) -> None:
    st.subheader("Two together")
    left, right = st.columns(2)
    x = choose_parameter(left, "Across", keys, study, key="x", help=ranking.HELP)
    others = [key for key in keys if key != x and {key, x} != {*importances.TWINS}]
    y = choose_parameter(right, "Up", others, study, key="y", help=NEXT_HELP)
    numeric = all(known[key].dtype.is_numeric() for key in (x, y))
    configurations = scores.by_configuration(known)
    found = _surface(configurations.select("trial", x, y, "score", "error"), x, y) if numeric else None
    drawn = found if found is not None and found.informs else None
    left, right = st.container(key="pair").columns(2)
    chart = plane.estimate(configurations, x, y, measure=measure, surface=drawn, dark=is_dark())
    left.plotly_chart(chart, key="plane", alt=f"{measure} over two parameters")
    placed = configurations.drop_nulls([x, y])
    if placed.select(x, y).is_duplicated().any():
        left.caption(
            "Configurations that share both values stand around their spot, which may be good and bad by others."
        )
    if found is None:
        there = placed.height if numeric else 0
        needs = f"A map needs {surface.FEWEST} configurations with numbers for both that differ; there are {there}."
        equal = there >= surface.FEWEST and placed["score"].n_unique() == 1
        right.caption(f"No map: the accuracies of the {there} trials are all equal." if equal else needs)
        return
    misses = f"misses a trial that it was not told of by {100 * found.left_out_error:.1f} points; the mean of all"
    misses += f" misses by {100 * found.spread:.1f}."
    if drawn is None:
        chance = f"On so few that may be chance: {found.gain:.1f} standard errors, and a map needs {surface.ENOUGH:g}."
        why = chance if found.closer else "The two say little about a trial here."
        right.warning(f"No map: one over these {found.trials} configurations {misses} {why} {SEEDS}")
        return
    chart = plane.uncertainty(configurations, x, y, surface=drawn, dark=is_dark())
    right.plotly_chart(chart, key="uncertainty", alt="Standard error of the map")
    st.caption(
        f"Left, a Gaussian process over {found.trials} configurations, averaged over the other parameters; right, one"
        f" standard error of it. {SEEDS} It {misses}"
    )


@st.cache_data(max_entries=16, show_spinner=False)
def _surface(known: pl.DataFrame, x: str, y: str) -> surface.Surface | None:
    return surface.surface(known, x, y)


def _importance(study: Study, known: pl.DataFrame) -> None:
    st.subheader("Importance")
    usable = importances.usable(study.results, scores.by_configuration(known))
    if usable.height < importances.FEWEST:
        st.caption(f"Needs {importances.FEWEST} configurations at this step; there are {usable.height}.")
        return
    share = ranking.shares(study, known)
    if share.is_empty() or known.filter(frames.SEARCH)["score"].n_unique() == 1:
        alone = "There is one parameter, which explains all that any does."
        st.caption(
            alone if len(study.results.spec.space) < 2 else "All trials have one score: there is nothing to explain."
        )
        return
    few, beyond = usable.height < importances.TRUSTED, importances.beyond_chance(share)
    if not beyond:
        st.warning(f"Of {usable.height} configurations no parameter explains more, by the mean of the methods, than one"
                   " does of shuffled scores: the pale bars do not tell which one matters.")  # fmt: skip
    elif few:
        st.info(f"Of {usable.height} configurations: a hint, not a finding. A single trial can turn the order of the"
                f" pale bars; from {importances.TRUSTED} on they count.")  # fmt: skip
    figure = figures.importances(share, pale=few or not beyond)
    st.plotly_chart(figure, key="importances", alt="Importance of each parameter")
    taken = min(usable.height, importances.MOST)
    st.caption(
        f"From {taken} of {usable.height} configurations at this step. {SEEDS} fANOVA explains the differences"
        " between all of them, PED-ANOVA what sets the best tenth apart. The last bars are the most that any parameter"
        f" explained in {importances.SHUFFLES} studies with these scores shuffled; where no parameter mattered, one"
        f" would be above them in {100 / (importances.SHUFFLES + 1):.0f} of 100 studies."
    )
