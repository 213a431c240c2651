"""Overview: the best configuration with both errors, progress, cost, what to do next, and every trial."""

from __future__ import annotations

import re
from typing import Any

import polars as pl
import streamlit as st

from dashboards import costs, frames, text
from dashboards.advice import advice
from dashboards.figures.history import history
from dashboards.scores import MEASURES
from dashboards.source import Study
from dashboards.views.length_accuracy import FRONT, draw
from dashboards.views.ranking import ranked
from dashboards.views.trials import trials_table
from dashboards.views.widgets import ORDER, PAGES, is_dark
from study.against import mean_lengths, over_seeds, seed_means_reported
from study.budget import devices
from study.costs import spared_by_pruning
from study.evidence import Evidence, SeedMean, error_in_words, highest_of
from study.results import StudyResults
from study.seeds import seeds_against_settings
from study.tables import beside_space, chosen_among, counted
from study.time_left import time_left
from trainer.digits import per_cent


def render(study: Study) -> None:
    """Numbers first, then what to do with them, the length-accuracy chart, and every trial."""
    st.title(text.in_markdown(study.title))
    with st.container(horizontal=True, gap="small", key="cards"):
        _best(study)
        _progress(study)
        _cost(study)
    _configuration(study)
    _next(study)
    keys = ranked(study)
    draw(
        study,
        set_name=study.sets[0],
        colour=keys[0] if keys else None,
        over=[FRONT] if study.results.spec.against else [],
        height=460,
    )
    _confirmed(study)
    st.subheader("Trials")
    labels = dict(study.trials.select("trial", "label").iter_rows())
    trials_table(study, study.sets[0])
    for trial in study.results.trials:
        if trial.beside and trial.confirms is None:
            st.caption(text.in_markdown(f"{labels[trial.number]}, {beside_space(trial.beside)}"))
    if study.trials["value"].count() > 1:
        st.subheader("Search so far")
        figure = history(study.trials, metric=study.results.metric_name, dark=is_dark())
        st.plotly_chart(figure, key="history", alt="Value of each completed trial, and the best so far")


def _best(study: Study) -> None:
    """The best trial on the set that chose it and, where there is one, on a set that did not."""
    best = study.results.best
    if best is None:
        _card("Best trial", "none yet", None, "A trial counts once it has run to its last step.")
        return
    first = study.results.evidence[0]
    confirmed = first if first.tested and first.fresh else None
    if confirmed is not None:
        among = highest_of(study.results.evidence)
        lucky = f" The highest of {among} such means, so a little of it is luck." if among else ""
        _card(
            f"Best {study.results.metric_name}", text.accuracy(confirmed.mean), _over_seeds(study, confirmed),
            f"The trials that confirm #{confirmed.number}: their mean, ± one standard error of it. The trial itself was"
            f" chosen for being high, so it is left out.{lucky}",
        )  # fmt: skip
    again, lengths = seed_means_reported(study.results).get(best.number, {}), mean_lengths(study.results)
    for name in study.sets[:2]:
        scores = frames.newest(study.evaluations, name).filter(pl.col("trial") == best.number)
        for row in scores.iter_rows(named=True):
            selects = name == study.sets[0]
            if name in again:
                _reported_over_seeds(row, again[name])
            elif not (selects and confirmed):
                _score(row, study.results if selects else None)
            if selects:
                length = lengths[best.number].mean if best.number in lengths else row["mean_length"]
                growth = f"{row['growth'] * length / row['mean_length']:.2f} × base model" if row["growth"] else None
                why = "Over the same fresh seeds as its metric." if best.number in lengths else None
                _card("Its mean length", f"{_tokens(length)} tokens", growth, why)


def _tokens(length: float) -> str:
    return f"{length:,.{0 if length >= 1000 else 1}f}"


def _over_seeds(study: Study, confirmed: Evidence) -> str:
    """± the error over fresh seeds; where they agree, what a single run of them leaves open."""
    if confirmed.seed_error:
        return f"{_error(SeedMean.of(confirmed.fresh))} over {confirmed.seeds}"
    if confirmed.lost:
        return confirmed.seeds
    said = confirmed.seeds if len(confirmed.fresh) == 1 else f"all {confirmed.seeds} the same"
    again = study.trials.filter(pl.col("confirms") == confirmed.number, pl.col("state") == "COMPLETE")["trial"]
    runs = frames.newest(study.evaluations, study.sets[0]).filter(pl.col("trial").is_in(again.to_list()))
    known = {text.errors(row) for row in runs.iter_rows(named=True)} if study.results.spec.metric == "avg@k" else set()
    if len(known) > 1:  # the same mean of other problems
        return f"{said}; the errors of each stand in the table"
    return "; each ".join(part for part in (said, *known) if part is not None)


def _reported_over_seeds(row: dict[str, Any], again: SeedMean) -> None:
    seeds = counted(again.seeds, "fresh seed")
    if again.seed_error is not None:
        seeds = f"{_error(again)} over {seeds}" if again.seed_error else f"all {seeds} the same"
    _card(
        f"Its avg@{row['samples']}, {row['set']}", text.accuracy(again.mean), seeds,
        f"The trials that confirm #{row['trial']}: their mean, ± one standard error of it. This set chose nothing, so"
        " its accuracy is not flattered.",
    )  # fmt: skip


def _mean(again: SeedMean | None) -> str:
    return "" if again is None else f"{text.points(again.mean)} {_error(again)}".strip()


def _error(again: SeedMean) -> str:
    return "" if again.seed_error is None else error_in_words(again.seed_error, text.points).replace("±", "± ")


def _score(row: dict[str, Any], chosen_by: StudyResults | None) -> None:
    """One set; of the set that chose, first the metric that it was chosen by."""
    trial = f"Trial #{row['trial']}, {row['problems']} problems × {row['samples']} responses"
    if chosen_by is None:
        why = f"{trial}, ± one standard error. This set chose nothing, so its accuracy is not flattered."
        _card(f"Its avg@{row['samples']}, {row['set']}", text.accuracy(row["accuracy"]), text.errors(row), why)
        return
    why = f"The best of {chosen_among(chosen_by)} by {chosen_by.metric_name}, so it is somewhat lucky."
    metric, average = chosen_by.spec.metric, f"avg@{row['samples']}"
    if metric == "avg@k":
        name, note, trial = average, text.errors(row), f"{trial}, ± one standard error"
    else:
        name, note = metric.replace("@k", f"@{row['samples']}"), f"{average} {text.accuracy(row['accuracy'])}"
    _card(f"Best {name}, {row['set']}", text.accuracy(row[MEASURES[metric]]), note, f"{trial}. {why}")


def _progress(study: Study) -> None:
    planned = study.results.planned
    counts = dict(study.trials.group_by("state").len().iter_rows())
    finished = study.results.ended
    left = time_left(study.results)
    note = str(left) if left is not None else None
    if finished == planned or study.results.driver is None:
        note = ", ".join(f"{counts[state]} {state.lower()}" for state in ORDER if state in counts)
    _card("Trials finished", f"{finished} of {planned}", note, "Complete, pruned and failed trials count.")


def _cost(study: Study) -> None:
    used = devices(study.results.spec.resources)
    spent = used.hours(costs.run_seconds(study.trials, study.evaluations)["run_seconds"].sum())
    saved = spared_by_pruning(study.results)
    pruned = costs.pruned(study.trials, study.evaluations, set_name=study.sets[0], steps=study.steps)
    spared = used.hours(pruned["spared_seconds"].sum())
    note = f"pruning spared {text.number(spared)}" if saved else None
    budget = study.results.spec.budget.gpu_hours if used.name == "GPU" else None
    why = f"Training time × {used.name}s of a trial ({text.number(used.count)}), up to the newest step."
    why += f" Pruning spared {per_cent(saved)} % of the steps of the trials that it judged." if saved else ""
    value = text.number(spent) + (f" of {text.number(budget)}" if budget else "")
    _card(f"{used.name[0].upper()}{used.name[1:]}-hours spent", value, note, why)


def _configuration(study: Study) -> None:
    best = study.results.best
    if best is None:
        return
    values = [
        f"{text.in_markdown(text.label(key))} **{text.in_markdown(text.setting(best.params[key]))}**"
        for key in frames.parameters(study.trials) or best.params  # all where none varies
        if key in best.params
    ]
    gamma = study.trials.filter(pl.col("trial") == best.number).to_dict(as_series=False).get("fipo.gamma", [None])[0]
    if gamma is not None and "fipo.gamma" not in best.params:
        values.insert(1, f"{text.label('fipo.gamma')} **{gamma:.4g}**")
    values += [
        f"{text.in_markdown(text.label(key))} **{text.in_markdown(text.setting(value))}**"
        for key, value in best.beside.items()
    ]
    left, right = st.columns([3, 1], vertical_alignment="center")
    name = text.in_markdown(study.trials.filter(pl.col("trial") == best.number)["label"].item())
    left.markdown(f"Best configuration, {name}" + (f": {' · '.join(values)}" if values else ""))
    if right.button("Export it", icon=":material/download:", type="primary", width="stretch"):
        st.switch_page(st.session_state[PAGES]["export"])


def _next(study: Study) -> None:
    """What to do next, each sentence with the page that has more on it."""
    found = advice(study.results, study.trials, study.evaluations)
    if not found:
        return
    pages = st.session_state.get(PAGES, {})
    with st.expander("What to do next", expanded=True, icon=":material/signpost:"):
        for each in found:
            sentence = st.container(horizontal=True, vertical_alignment="center", gap="small")
            sentence.markdown(text.in_markdown(each.sentence), width="stretch")
            if each.page in pages:
                label = pages[each.page].title
                sentence.page_link(pages[each.page], label=label, query_params=each.query, width="content")


def _confirmed(study: Study) -> None:
    """The configurations that were trained again with other seeds, and whether they differ by more than seeds do."""
    found = [each for each in study.results.evidence if each.tested]
    if not found:
        return
    st.subheader("Confirmed with other seeds")
    verdict = seeds_against_settings(found, number=text.points, unit=" points")
    if verdict:
        st.markdown(text.in_markdown(verdict[0].upper() + verdict[1:] + "."))
    for line in over_seeds(study.results, number=text.points, unit=" points"):
        st.markdown(text.in_markdown(f"{line[0].upper()}{line[1:]}."))
    labels = dict(study.trials.select("trial", "label").iter_rows())
    again, lengths = seed_means_reported(study.results), mean_lengths(study.results)
    rows = [
        (labels[each.number], 100 * each.first, re.sub(" fresh seeds?", "", each.seeds),
         100 * each.mean if each.fresh else None,
         "" if each.seed_error is None else error_in_words(each.seed_error, text.points),
         ", ".join(map(text.points, each.fresh.values())),
         _tokens(lengths[each.number].mean) if each.number in lengths else "",
         *(_mean(again.get(each.number, {}).get(name)) for name in study.sets[1:]))
        for each in found
    ]  # fmt: skip
    number = st.column_config.NumberColumn
    columns = {
        "first": number("as chosen, %", format="%.1f", help="Of the trial itself, which was chosen for being high."),
        "seeds": st.column_config.TextColumn("fresh seeds", help="Those that were lost have no metric to count."),
        "mean": number(f"their mean {study.results.metric_name}, %", format="%.1f"),
        "error": st.column_config.TextColumn("± seeds", help="One standard error of that mean, in points."),
        "runs": st.column_config.TextColumn("each fresh seed, %"),
        "length": st.column_config.TextColumn("tokens", help="Mean response length over the fresh seeds."),
    }
    why = "Mean avg@k of the fresh seeds. This set chose nothing."
    columns |= {f"{name} again": st.column_config.TextColumn(f"{name}, %", help=why) for name in study.sets[1:]}
    table = pl.DataFrame(rows, schema=["trial", *columns], orient="row")
    st.dataframe(table, column_config=columns, hide_index=True, key="confirmed", alt="Confirmed configurations")


def _card(name: str, value: str, note: str | None, explanation: str | None = None) -> None:
    st.metric(
        text.in_markdown(name), value, note, help=explanation, delta_arrow="off", delta_color="off", border=True,
        width="stretch",
    )  # fmt: skip
