"""Where an exported file comes from, and how sure its numbers are: the lines at the top of every target."""

from __future__ import annotations

from study.against import against_controls, seed_means_reported
from study.clock import now, with_zone
from study.environment import environment, noted_environment
from study.evidence import error_in_words
from study.export.gaps import Gap
from study.export.recipe import trial_config
from study.export.selection import no_estimate, split_half
from study.export.transfer import tuned_on
from study.metric import metric_value
from study.mistakes import flow
from study.results import StudyResults, TrialResult
from study.seeds import seeds_against_settings
from study.tables import beside_space, chosen_among, counted, label
from study.verdict import equals, passed_over, under_way
from trainer import saturation
from trainer.digits import decimal
from trainer.records import SetScore


def provenance(results: StudyResults, trial: TrialResult) -> list[str]:
    """Study, trial, seeds, data, scores with both errors, how many it was chosen from and the correction for it."""
    config = trial_config(trial)
    role = f"control {trial.control}" if trial.control else label(trial)
    stopped = f", {trial.stop_reason}" if trial.stop_reason else ""
    values = ", ".join(f"{key} = {flow(value)}" for key, value in trial.params.items())
    values = f"{'values' if trial.control else 'sampled'}: {values}"
    ended = f", ended {with_zone(trial.ended)}" if trial.ended else ""
    return [
        f"Study {results.spec.name}, trial {trial.number}" + (f" ({role})" if role else ""),
        f"from {results.directory.absolute().name}, exported {now()}",
        f"state {results.state(trial)} at step {trial.steps_done} of {config.steps}{stopped}{ended}",
        f"{values}; {beside_space(trial.beside)}" if trial.beside else values,
        f"seeds: training {config.seed}, sampler {results.spec.seed} ({results.spec.sampler.name})",
        f"{tuned_on(trial, config)}; training data {_with_digest(results, config.data.train)}",
        *score_lines(results, trial),
        *selection_lines(results, trial),
        *(line.replace("±", "+- ") for line in against_controls(results, of=trial.number)),
        f"trained with {trained_with(results)}",
        f"exported with {environment()}",
    ]


def trained_with(results: StudyResults) -> str:
    """Versions and commit that the study ran with, in one line."""
    noted = noted_environment(results.directory)
    return "; then with ".join(noted.splitlines()) if noted else "versions that were not noted"


def differences(gaps: list[Gap], notes: tuple[str, ...], target: str) -> list[str]:
    """What the file does not say as the trial ran, for the top of it."""
    lines = [*notes]
    if gaps:
        lines += ["", f"APPROXIMATED for {target}, as --approximate asked:"]
        lines += [f"- {gap.ours}: {gap.reason}. Written: {gap.taken}" for gap in gaps]
    return lines


def score_lines(results: StudyResults, trial: TrialResult) -> list[str]:
    """Accuracy of each set after the last evaluation, with its file, k and both standard errors."""
    if not trial.evaluations:
        return ["not evaluated yet"]
    selecting, lines = results.spec.selecting.name, []
    for each in results.spec.evaluation_config().sets:
        found = trial.scores(each.name)
        if found:
            step, score = max(found.items())
            role = "selected on" if each.name == selecting else "only reported"
            where = _with_digest(results, each.path)
            lines.append(f"{each.name} ({role}, {where}) at step {step}: {score_text(score)}")
            if each.name == selecting and results.spec.metric != "avg@k":
                lines.append(f"{results.metric_name} {decimal(metric_value(score, results.spec.metric), digits=4)}")
    return lines


def _with_digest(results: StudyResults, path: str) -> str:
    """The path of a problem set, with the first digits of its file's hash where that is known."""
    digest = results.files.get(path)
    return f"{path}, sha256 {digest[:12]} when the study began" if digest else path


def score_text(score: SetScore) -> str:
    """avg@k with its errors and the mean length."""
    names = {"sampling": "sampling", "problems": f"across {len(score.solved)} problems"}
    errors = "".join(
        f" {each.text.replace('±', '+- ')} ({names[each.name]})" for each in saturation.errors(score, digits=4)
    )
    accuracy = decimal(score.accuracy, digits=4)
    return f"avg@{score.samples} {accuracy}{errors}, mean length {score.mean_length:.1f} tokens"


def selection_lines(results: StudyResults, trial: TrialResult) -> list[str]:
    """What it was chosen from, its rank there, what fresh seeds say of it and may still say, and the accuracy without
    the luck of the choice."""
    found = results.evidence
    alone = " alone, its length left aside" if results.spec.against else ""
    among = f"{chosen_among(results)} by {results.metric_name}{alone}"
    rank = next((rank for rank, each in enumerate(found, 1) if each.number == trial.number), None)
    own = found[rank - 1] if rank is not None else None
    if own is None:
        chosen = f"named, not ranked: the study has {among}"
    else:
        by = ", by its fresh seeds" if own.tested else equals(results, trial)
        chosen = f"best of {among}{by}" if rank == 1 else f"rank {rank} of {among}{by}"
    lines = [f"{chosen}; the highest of many is high partly by chance, so judge it by the sets that were only reported"]
    lines += under_way(results)
    if own is not None and own.tested:
        if (said := seeds_against_settings(found)) is not None:
            lines.append(f"the {said}")
        lines += passed_over(results)
        mean, error = decimal(own.mean, digits=4) if own.fresh else "not known", own.seed_error
        if error is not None:
            mean += f" +- {decimal(error, digits=4)} (seeds)" if error else f" {error_in_words(error)}"
        lines.append(
            f"{results.metric_name} over {own.seeds} {mean}"
            f"; the run that was selected, {decimal(own.first, digits=4)}, is not among them"
        )
        samples = {each.name: each.samples for each in results.spec.evaluation_config().sets}
        for name, again in seed_means_reported(results).get(own.number, {}).items():
            mean = str(again).replace("±", "+- ")
            lines.append(f"{name}/avg@{samples[name]} over {counted(again.seeds, 'fresh seed')} {mean}; only reported")
    if own is None or own.first < max(each.first for each in found):
        return lines  # the estimate is of the trial with the highest run
    estimate = split_half(results)
    return [
        *lines,
        f"selection-corrected {results.metric_name} of taking the best: "
        + (str(estimate) if estimate else f"none, since {no_estimate(results)}"),
    ]
