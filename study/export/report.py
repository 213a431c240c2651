"""A study as one HTML file that needs no network: its story, length-accuracy chart, table, noise, config, commands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import yaml

from study.against import Pair, confounded, mean_lengths, over_seeds, pairs
from study.directory import typed
from study.evidence import error_in_words
from study.export.chart import length_accuracy
from study.export.provenance import provenance, selection_lines
from study.export.recipe import trial_config
from study.export.script import plain
from study.export.tables import published
from study.export.transfer import tuned_on
from study.paired import last_pair
from study.plan import aim
from study.results import StudyResults, TrialResult
from study.seeds import seeds_against_settings
from study.space import describe
from study.tables import accuracy, beside_space, counts, label, length, named, setting, state
from study.verdict import how_to_confirm, passed_over, seed_means
from trainer import saturation
from trainer.digits import decimal
from trainer.records import SetScore

STYLE = """
:root { color-scheme: light dark; --ink: #22252b; --soft: #5d6470; --line: #d9dce1; --paper: #fff; --card: #f5f6f8;
  --chosen: #0072b2 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #a2a9b4; --line: #353a43; --paper: #14161a; --card: #1d2026; --chosen: #56b4e9 } }
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem;
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1, h2 { line-height: 1.2; margin: 0 } h1 { font-size: 2rem } h2 { font-size: 1.25rem; margin: 2.75rem 0 .6rem }
p, ul { margin: .6rem 0; max-width: 48rem; overflow-wrap: anywhere }
.story { font-size: 1.1rem } .soft { color: var(--soft); font-size: .9rem }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(12.5rem, 1fr)); gap: .8rem; margin: 1.5rem 0 }
.card { background: var(--card); border-radius: 10px; padding: .8rem 1rem }
.card b { display: block; font-size: 1.6rem; font-variant-numeric: tabular-nums; line-height: 1.3 }
.wide { overflow-x: auto; width: max-content; min-width: 100%; max-width: calc(100vw - 2.5rem); position: relative;
  left: 50%; transform: translateX(-50%) }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { vertical-align: bottom; color: var(--soft); font-weight: 600; white-space: normal }
.left { text-align: left } tr.chosen td { font-weight: 650; color: var(--chosen) }
pre, details { border: 1px solid var(--line); border-radius: 10px } details { margin: .6rem 0 }
pre { overflow-x: auto; padding: .8rem 1rem; font-size: .88rem; line-height: 1.45 }
summary { cursor: pointer; padding: .5rem 1rem } details pre { border: 0; margin: 0 }
.plotly-graph-div g:not(.hovertext) > text { fill: var(--ink) !important }
.plotly-graph-div .gridlayer path { stroke: var(--line) !important }
.plotly-graph-div .modebar { display: none }
@media print { details > pre { display: block } body { padding: 0 } }
"""
# Scripts and styles of this file only: nothing is fetched, whatever a name or text in it says.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; font-src data:"


def report(results: StudyResults, trial: TrialResult) -> str:
    """The report on `results` with `trial` as the chosen one. All text is escaped."""
    import plotly.io

    spec, directory = results.spec, plain(results.directory.absolute().name)
    title = f"Study {spec.name}" + (f" in {directory}" if directory != spec.name else "")
    study = yaml.safe_dump(published(spec), sort_keys=False, allow_unicode=True)
    # No `cdn`: the library is in the file, about 5 MB.
    chart = plotly.io.to_html(
        length_accuracy(results, trial), include_plotlyjs=True, full_html=False, config={"displayModeBar": False}
    )
    config = yaml.safe_dump(trial_config(trial).model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    space = (f"<code>{escape(key)}</code>: {escape(plain(describe(each)))}" for key, each in spec.space.items())
    searched = f"Sampler {spec.sampler.name}, pruner {spec.pruner.name}, {aim(spec)}."
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<p class="story">{escape(_story(results, trial))}</p>
{_cards(results, trial)}
<h2>Response length and accuracy</h2>
{chart}
<p class="soft">One line per trial in step order, from the base model to the large mark of its last evaluation; bars are
the standard error of sampling. Point at a line for its settings.</p>
<h2>How sure this is</h2>
{_scores(results, trial)}
{_list(escape(line) for line in _noise(results, trial))}
<h2>Trials</h2>
<div class="wide">{_trials(results, trial)}</div>
<p class="soft">Best configuration first, by its fresh seeds where there are some; the numbers are of each trial's own
run. Accuracy ± standard error of sampling ± across problems.</p>
<h2>What was searched</h2>
<p>{escape(plain(searched))}</p>
{_list(space)}
<h2>Run it again</h2>
<pre>{escape(plain(typed("export", results.directory)))} --trial {trial.number} --out best.yaml
fipo train best.yaml        # this trial, to the same numbers on the same machine
fipo launch study.yaml      # the whole study</pre>
<details><summary>best.yaml: the config of trial {trial.number}</summary><pre>{escape(config)}</pre></details>
<details><summary>study.yaml: the whole study</summary><pre>{escape(study)}</pre></details>
<h2>Where it comes from</h2>
{_list(escape(plain(line)) for line in provenance(results, trial))}
</body></html>
"""


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _ends(trial: TrialResult, name: str) -> tuple[SetScore | None, SetScore | None]:
    """The first and the newest score of a set.

    The newest is None while there is one alone, which is the base model's: of a pruned trial the reported set has no
    other.
    """
    found = list(trial.scores(name).values())
    return (found[0] if found else None, found[-1] if len(found) > 1 else None)


def _story(results: StudyResults, trial: TrialResult) -> str:
    selecting, *reported = (each.name for each in results.spec.evaluation_config().sets)
    swept = ", ".join(key.split(".")[-1] for key in results.spec.space)
    text = f"{counts(results)}, over {swept}. "
    first, last = _ends(trial, selecting)
    who = f"T{named(trial)[1:]}"
    if first is None or last is None:
        return plain(text + f"{who} has not been evaluated since it began.")
    text += (
        f"{who} went from avg@{first.samples} {decimal(first.accuracy)} to {decimal(last.accuracy)} on"
        f" {selecting} while its responses went from {first.mean_length:.1f} to {last.mean_length:.1f} tokens."
    )
    for name in reported:
        before, after = _ends(trial, name)
        if before is not None and after is not None:
            text += f" On {name}, which chose nothing: {decimal(before.accuracy)} to {decimal(after.accuracy)}."
    return plain(text)


def _cards(results: StudyResults, trial: TrialResult) -> str:
    cards, sets = [], results.spec.evaluation_config().sets
    for each in sets:
        role = "selected on" if each is sets[0] else "only reported"
        _, score = _ends(trial, each.name)
        if score is not None:
            known = {each.name: each.text.replace("±", "± ") for each in saturation.errors(score)}
            error = f"{known['problems']} across problems" if "problems" in known else ""
            cards.append((f"{each.name} avg@{score.samples}, {role}", decimal(score.accuracy), error))
    seeds = next((each for each in results.evidence if each.number == trial.number), None)
    if seeds is not None and seeds.tested:
        error, spread = seeds.seed_error, ""
        if error is not None:
            spread = error_in_words(error).replace("±", "± ").strip("()") + (" over seeds" if error else "")
        mean = decimal(seeds.mean) if seeds.fresh else "not known"
        cards.append((f"{results.metric_name} over {seeds.seeds}", mean, spread))
    first, last = _ends(trial, sets[0].name)
    if first is not None and last is not None:
        again = mean_lengths(results).get(trial.number)
        length, runs = (again.mean, f" over {seeds.seeds}") if again and seeds else (last.mean_length, "")
        cards.append((f"mean response length{runs}", f"{length:.1f}", f"tokens, from {first.mean_length:.1f}"))
    body = "".join(
        f'<div class="card"><span class="soft">{escape(plain(name))}</span><b>{escape(value)}</b>'
        f'<span class="soft">{escape(more)}</span></div>'
        for name, value, more in cards
    )
    return f'<div class="cards">{body}</div>'


def _scores(results: StudyResults, trial: TrialResult) -> str:
    """Every set before and after training, with both errors."""
    rows = []
    sets = results.spec.evaluation_config().sets
    for each in sets:
        role = "selected on" if each is sets[0] else "only reported"
        for when, score in zip(("base model", "after"), _ends(trial, each.name), strict=True):
            if score is not None:
                known = {error.name: error.text.lstrip("±") for error in saturation.errors(score, digits=4)}
                errors = [known.get(name, "") for name in ("sampling", "problems")]
                accuracy, length = decimal(score.accuracy, digits=4), f"{score.mean_length:.1f}"
                rows.append([f"{each.name} ({role})", when, accuracy, *errors, str(score.samples), length])
    titles = ["set", "", "avg@k", "± sampling", "± problems", "k", "length (tokens)"]
    return f'<div class="wide">{_table(titles, rows, left=2)}</div>'


def _noise(results: StudyResults, trial: TrialResult) -> list[str]:
    """What the errors mean, and what they say of the controls and of the seeds."""
    commands = passed_over(results)
    lines = [
        "± sampling is what other draws for the same problems would change, ± problems what other problems would; the"
        " second is the one to compare with another benchmark.",
        *(_sentence(line, commands) for line in selection_lines(results, trial)),
    ]
    controls = [each for each in results.trials if each.control and each.state == "COMPLETE"]
    compared = [Pair(trial, each, confounded(results, trial, each)) for each in controls if each is not trial]
    # Of a control: how the best of the others stands against it. Of the best: who differs from a control in FIPO alone.
    found = pairs(results)
    others = [pair for pair in found if not pair.trial.control and pair.trial is not trial]
    compared += [pair for pair in others if trial is pair.control or trial is found[0].trial]
    for one, control, remark in compared:
        lines += _compared(results, one, control)
        lines += [_sentence(remark)] if remark is not None else []
    lines += (_sentence(line, commands) for line in (*seed_means(results), *commands, *over_seeds(results)))
    if verdict := seeds_against_settings(results.evidence):
        lines.append(f"The {verdict}.")
    elif not any(each.tested for each in results.evidence):
        lines.append(
            "No configuration was trained with a second seed, so trials may differ by luck alone"
            f"{how_to_confirm(results) or '.'}"
        )
    config = trial_config(trial)
    again = "" if config.fipo.is_dapo else " With another model or other lengths the half-life is to be found again."
    lines.append(_sentence(tuned_on(trial, config)) + again)
    return [*dict.fromkeys(plain(line) for line in lines)]  # over seeds and problem by problem the same may differ


def _sentence(line: str, commands: Sequence[str] = ()) -> str:
    """`line` with a capital and a full stop, which one of `commands` has not: it would become part of the command."""
    return _capital(line) + "." * (line not in commands)


def _capital(line: str) -> str:
    """`line` with a capital, unless it begins with the name of a metric."""
    return line if "/" in line.split()[0] else line[0].upper() + line[1:]


def _compared(results: StudyResults, trial: TrialResult, control: TrialResult) -> list[str]:
    """The trial less a control on each set, paired by problem at the last step that both have."""
    lines = []
    for each in results.spec.evaluation_config().sets:
        found = last_pair(results, each.name, trial.number, control.number)
        if found is None:
            continue
        step, gap = found
        spread = f" ({gap.counts})"
        if gap.error is not None:
            beyond = "more" if abs(gap.difference) > 2 * gap.error else "not more"
            spread = f" ± {decimal(gap.error, digits=4)} across problems, {beyond} than twice its error"
        lines.append(
            f"{_capital(named(trial))} against {named(control)} on {each.name} at step {step}, one run of each,"
            f" problem by problem: {decimal(gap.difference, digits=4, signed=True)}{spread}."
        )
    return lines


def _trials(results: StudyResults, chosen: TrialResult) -> str:
    spec = results.spec
    ranks = {each.number: rank for rank, each in enumerate(results.evidence)}
    ordered = sorted(
        results.trials,
        key=lambda each: (ranks.get(each.number, len(ranks)), -each.steps_done, -(_latest(results, each))),
    )
    titles = ["trial", "state", "step", results.metric_name, "length (tokens)"]
    rows = []
    for trial in ordered:
        words = " ".join(each for each in (state(results, trial), label(trial)) if each)
        rows.append([
            str(trial.number), words, str(trial.steps_done), accuracy(spec, trial).replace("±", "± "),
            length(spec, trial), *(setting(trial, key) for key in spec.space),
        ])  # fmt: skip
    mark = next((index for index, trial in enumerate(ordered) if trial.number == chosen.number), None)
    beside = "".join(
        f'<p class="soft">{escape(plain(f"{named(each)}, {beside_space(each.beside)}"))}.</p>'
        for each in results.trials
        if each.beside and each.confirms is None
    )
    return _table([*titles, *(key.replace(".", ". ") for key in spec.space)], rows, left=2, chosen=mark) + beside


def _latest(results: StudyResults, trial: TrialResult) -> float:
    score = _ends(trial, results.spec.selecting.name)[1]
    return 0.0 if score is None else score.accuracy


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, chosen: int | None = None) -> str:
    """HTML of a table; the first `left` columns hold text, row `chosen` stands out."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        classes = [' class="left"' if index < left else "" for index in range(len(texts))]
        return "".join(f"<{tag}{mark}>{escape(plain(text))}</{tag}>" for text, mark in zip(texts, classes, strict=True))

    body = "".join(
        f"<tr{' class=chosen' if index == chosen else ''}>{cells('td', row)}</tr>" for index, row in enumerate(rows)
    )
    return f"<table><thead><tr>{cells('th', titles)}</tr></thead><tbody>{body}</tbody></table>"
