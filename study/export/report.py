"""A study as one HTML file that needs no network: its story, length-accuracy chart, table, noise, config, commands."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import yaml

from study.export.provenance import provenance
from study.export.recipe import trial_config
from study.export.script import plain
from study.metric import selecting_score
from study.results import StudyResults, TrialResult
from study.space import describe
from study.tables import accuracy, counts, length, number

if TYPE_CHECKING:
    import plotly.graph_objects as go

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap }
th:nth-child(2), td:nth-child(2) { text-align: left } .wide { overflow-x: auto }
tr.chosen { font-weight: 600 } pre { overflow-x: auto; padding: .8rem; border: 1px solid #8884; border-radius: 6px }
"""
# Scripts and styles of this file only: nothing is fetched, whatever a name or text in it says.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; font-src data:"


def report(results: StudyResults, trial: TrialResult) -> str:
    """The report on `results` with `trial` as the chosen one. All text is escaped."""
    import plotly.io

    spec = results.spec
    title = f"Study {spec.name}"
    # No `cdn`: the library is in the file, about 5 MB.
    chart = plotly.io.to_html(
        length_accuracy(results, trial), include_plotlyjs=True, full_html=False, config={"displaylogo": False}
    )
    space = "".join(
        f"<li><code>{escape(key)}</code>: {escape(plain(describe(each)))}</li>" for key, each in spec.space.items()
    )
    config = yaml.safe_dump(trial_config(trial).model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    lines = "".join(f"<li>{escape(plain(line))}</li>" for line in provenance(results, trial))
    swept = ", ".join(spec.space)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p>{escape(_story(results, trial))}</p>
<h2>Response length and accuracy</h2>
<p>One line per trial in step order; the marked end is its last evaluation. Bars are the standard error of sampling.</p>
{chart}
<h2>Trials</h2>
<div class="wide">{_table(results, trial)}</div>
<h2>How sure this is</h2>
<ul>{lines}</ul>
<p>The sampling error says what other draws for the same problems would give; the error across problems says what other
problems would give, and is the one to compare with another benchmark.</p>
<h2>What was searched</h2>
<p>{escape(f"{swept}: sampler {spec.sampler.name}, pruner {spec.pruner.name}, maximizing {results.metric_name}.")}</p>
<ul>{space}</ul>
<h2>The config of trial {trial.number}</h2>
<pre>{escape(config)}</pre>
<h2>Run it again</h2>
<pre>fipo export STUDY --trial {trial.number} --out best.yaml
fipo train best.yaml

fipo launch study.yaml    # the whole study, from the study.yaml in its directory</pre>
</body></html>
"""


def length_accuracy(results: StudyResults, chosen: TrialResult) -> go.Figure:
    """avg@k of the selecting set against mean response length, one line per trial."""
    import plotly.graph_objects as go

    name = results.spec.evaluation_config().sets[0].name
    figure = go.Figure()
    for trial in sorted(results.trials, key=lambda each: each.number == chosen.number):
        found = [(each.step, selecting_score(each, name)) for each in trial.evaluations]
        points = [(step, score) for step, score in found if score is not None]
        if not points:
            continue
        mine = trial.number == chosen.number
        label = f"trial {trial.number}" + (f" ({trial.control})" if trial.control else "")
        figure.add_trace(
            go.Scatter(
                x=[score.mean_length for _, score in points],
                y=[score.accuracy for _, score in points],
                error_y={"type": "data", "array": [score.sampling_error or 0.0 for _, score in points], "width": 0},
                customdata=[[step] for step, _ in points],
                name=escape(plain(label)),
                mode="lines+markers",
                opacity=1.0 if mine or trial.control else 0.45,
                line={"width": 4 if mine else 2, "dash": "dot" if trial.control else "solid"},
                marker={"size": [11 if last == len(points) - 1 else 5 for last in range(len(points))]},
                hovertemplate="step %{customdata[0]}<br>length %{x:.1f} tokens<br>accuracy %{y:.3f}",
            )
        )
    samples = results.spec.evaluation_config().sets[0].samples
    figure.update_layout(
        xaxis_title="mean response length (tokens)",
        yaxis_title=f"{escape(name)} avg@{samples}",
        template="plotly_white",
        height=560,
    )
    return figure


def _story(results: StudyResults, trial: TrialResult) -> str:
    first = next((each for each in trial.evaluations if each.step == 0), None)
    name = results.spec.evaluation_config().sets[0].name
    text = f"{counts(results)}. Chosen: trial {trial.number}, {results.metric_name} {accuracy(results.spec, trial)}"
    text += f", mean response length {length(results.spec, trial)} tokens."
    base = selecting_score(first, name) if first else None
    if base is not None:
        text += f" It began at avg@{base.samples} {base.accuracy:.3f} and {base.mean_length:.1f} tokens."
    return plain(text)


def _table(results: StudyResults, chosen: TrialResult) -> str:
    spec = results.spec
    titles = ["trial", "state", "step", f"{results.metric_name} ± sampling ± problems", "length (tokens)", *spec.space]
    head = "".join(f"<th>{escape(each)}</th>" for each in titles)
    rows = ""
    for trial in results.trials:
        state = trial.state + (f" at {trial.pruned_at}" if trial.pruned_at is not None else "")
        state += f" {trial.control}" if trial.control else ""
        cells = [
            str(trial.number), plain(state), str(trial.steps_done), accuracy(spec, trial), length(spec, trial),
            *(number(trial.params.get(key)) for key in spec.space),
        ]  # fmt: skip
        mark = ' class="chosen"' if trial.number == chosen.number else ""
        rows += f"<tr{mark}>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
