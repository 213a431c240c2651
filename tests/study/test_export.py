"""Which trials are exported and where to; the YAML is the trial's own config, with its provenance above it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from study.directory import write_or_refuse
from study.export import prepare, summary, write
from study.results import read_study
from tests.study.exported import PAPER, make_results, papers
from trainer.config import TrainerConfig
from trainer.config_file import read_config
from trainer.errors import UserError


@pytest.fixture
def results(make_bridge, run_trial):
    bridge = make_bridge(pruner={"name": "none"})
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.6])
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.7])
    run_trial(bridge, [0.2, 0.9])  # ended early: FAIL
    return read_study(bridge.directory)


@pytest.fixture
def export(results):
    def run(*args, **options):
        exports = prepare(results, *args, **options)
        write(results, exports)
        return exports

    return run


def test_the_best_trials_config_is_exported_and_valid(export, tmp_path):
    (one,) = export(out=tmp_path / "best.yaml")
    assert one.trial.number == 1
    exported = read_config(TrainerConfig, tmp_path / "best.yaml")
    own = TrainerConfig.model_validate(yaml.safe_load((one.trial.directory / "config.yaml").read_text()))
    assert exported == own
    assert exported.optimizer.learning_rate == one.trial.params["optimizer.learning_rate"]


def test_the_header_says_where_it_comes_from_and_how_sure_it_is(export, tmp_path):
    export(out=tmp_path / "best.yaml")
    text = "\n".join(line for line in (tmp_path / "best.yaml").read_text().splitlines() if line.startswith("#"))
    for words in (
        "Study unit, trial 1",
        "best of 2 COMPLETE among 3 trials by sums_select/avg@8",
        "sums_select (selected on, embedded:select) at step 20: avg@8 0.7000 +- 0.0110 (sampling) +- 0.0220",
        "sums_report (only reported, embedded:report)",
        "seeds: training 0, sampler 0 (random)",
        "selection-corrected sums_select/avg@8 of taking the best: ",
        "split halves",
        "torch 2.",
    ):
        assert words in text


def test_a_named_trial_is_exported_whatever_its_state(export, tmp_path):
    (one,) = export(number=2, out=tmp_path / "x.yaml")
    assert (one.trial.number, one.trial.state) == (2, "FAIL")
    assert "state FAIL" in (tmp_path / "x.yaml").read_text()


def test_the_best_n_go_into_a_directory_best_first(export, tmp_path):
    exports = export(top=2, out=tmp_path / "best")
    assert [each.trial.number for each in exports] == [1, 0]
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == ["trial-0000.yaml", "trial-0001.yaml"]


def with_scores(directory, points: list[tuple[float, float]], confirms: dict[int, int] | None = None):
    """COMPLETE trials of these accuracies and mean lengths; `confirms` says which trial confirms which."""
    made = make_results(directory, papers(len(points)))
    trials = []
    for trial, (value, length) in zip(made.trials, points, strict=True):
        last = trial.evaluations[-1]
        scores = (last.scores[0].model_copy(update={"mean_length": length}), *last.scores[1:])
        evaluations = (trial.evaluations[0], last.model_copy(update={"scores": scores}))
        confirmed = (confirms or {}).get(trial.number)
        beside = {} if confirmed is None else {"seed": trial.number}
        trials.append(replace(trial, value=value, evaluations=evaluations, confirms=confirmed, beside=beside))
    return replace(made, trials=tuple(trials))


def test_the_front_has_no_trial_that_another_beats_in_accuracy_and_length(tmp_path):
    results = with_scores(tmp_path / "study", [(0.6, 900), (0.6, 700), (0.5, 800), (0.4, 300), (0.3, 300)])
    exports = prepare(results, pareto=True, out=tmp_path / "front")
    assert [each.trial.number for each in exports] == [1, 3]


def test_the_front_goes_by_fresh_seeds_where_there_are_some(tmp_path):
    """The lucky run of trial 0 is beaten by trial 1 over seeds; that of trial 2 was short by chance alone."""
    points = [
        (0.9, 500),
        (0.6, 600),
        (0.3, 100),
        (0.4, 500),
        (0.4, 500),
        (0.8, 450),
        (0.8, 450),
        (0.3, 700),
        (0.3, 700),
    ]
    results = with_scores(tmp_path / "study", points, confirms={3: 0, 4: 0, 5: 1, 6: 1, 7: 2, 8: 2})
    assert [each.trial.number for each in prepare(results, pareto=True, out=tmp_path / "front")] == [1]


def test_the_front_begins_with_the_best_however_high_a_single_run_was(tmp_path):
    """As `--top` does: trial 1 has the higher run and the same length, and no fresh seed."""
    points = [(0.99, 350), (0.98, 350), (0.97, 350), (0.97, 350)]
    results = with_scores(tmp_path / "study", points, confirms={2: 0, 3: 0})
    assert [each.trial.number for each in prepare(results, pareto=True, out=tmp_path / "front")] == [0]
    points = [(1.0, 350), (1.0, 300), (1.0, 350), (1.0, 350)]  # as high, and shorter
    results = with_scores(tmp_path / "equals", points, confirms={2: 0, 3: 0})
    assert [each.trial.number for each in prepare(results, pareto=True, out=tmp_path / "front")] == [0, 1]


def test_a_study_of_two_objectives_says_that_the_best_is_so_by_one(tmp_path):
    results = with_scores(tmp_path / "study", [(0.6, 900), (0.5, 300)])
    results = replace(results, spec=results.spec.model_copy(update={"against": "length"}))
    (one,) = prepare(results, out=tmp_path / "best.yaml")
    assert "best of 2 COMPLETE among 2 trials by aime_2024/avg@32 alone, its length left aside" in one.text
    front = prepare(results, pareto=True, out=tmp_path / "front")
    assert [each.trial.number for each in front] == [0, 1]


def test_a_configuration_confirmed_with_other_seeds_goes_before_a_lucky_single_run(tmp_path):
    results = with_scores(tmp_path / "study", [(0.9, 900), (0.92, 900), (0.6, 900), (0.8, 900)], confirms={2: 1, 3: 1})
    exports = prepare(results, top=2, out=tmp_path / "best")
    assert [each.trial.number for each in exports] == [1, 0]
    assert exports[0].trial.number == results.best.number
    assert "aime_2024/avg@32 over 2 fresh seeds 0.7000 +- 0.1000 (seeds); the run that was selected, 0.9200," in (
        exports[0].text
    )
    with pytest.raises(UserError, match="has 2 COMPLETE configurations"):
        prepare(results, top=3, out=tmp_path / "more")
    (one,) = prepare(results, number=2, out=tmp_path / "x.yaml")
    assert "trial 2 (confirms 1)" in one.text
    assert "named, not ranked" in one.text


def test_a_trial_that_is_not_the_best_says_its_rank(export, tmp_path):
    export(number=0, out=tmp_path / "x.yaml")
    text = (tmp_path / "x.yaml").read_text()
    assert "rank 2 of 2 COMPLETE among 3 trials" in text
    assert "# best of" not in text


def test_several_files_appear_together_or_not_at_all(export, tmp_path, monkeypatch):
    def full(path, text, *, write=write_or_refuse):
        if "0000" in path.name:
            raise UserError("no space")
        write(path, text)

    monkeypatch.setattr("study.export.write_or_refuse", full)
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError, match="no space"):
        export(top=2, out=tmp_path / "best")
    assert set(tmp_path.iterdir()) == before


def test_nothing_is_overwritten_and_nothing_half_written(export, tmp_path):
    (tmp_path / "best.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"best\.yaml exists"):
        export(out=tmp_path / "best.yaml")
    assert (tmp_path / "best.yaml").read_text() == "mine"
    with pytest.raises(UserError, match="does not exist"):
        export(out=tmp_path / "nowhere" / "best.yaml")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, the one place where root may not write")
@pytest.mark.parametrize("options", [{}, {"top": 2}, {"target": "report"}, {"target": "csv"}])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, options):
    results, out = with_scores(tmp_path / "study", [(0.6, 900), (0.5, 900)]), Path("/proc/export")
    exports = prepare(results, options.pop("target", "yaml"), out=out, **options)
    with pytest.raises(UserError, match=r"/proc/export: cannot be (written|made) \(.*choose another place"):
        write(results, exports)


def test_a_trial_whose_config_is_gone_is_named(tmp_path):
    results = with_scores(tmp_path / "study", [(0.6, 900), (0.7, 900)])
    (results.trials[1].directory / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"0001/config\.yaml: trial 1 has no config"):
        prepare(results, out=tmp_path / "best.yaml")
    prepare(results, number=0, out=tmp_path / "best.yaml")
    prepare(results, "json", out=tmp_path / "trials.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": 7}, r"--trial 7: .* allowed: 0 to 1"),
        ({"top": 3}, r"--top 3: .* has 2 COMPLETE configurations; allowed: 1 to 2"),
        ({"top": 0}, r"--top 0"),
        ({"top": 1, "pareto": True}, r"--top and --pareto each choose"),
        ({"target": "verlo"}, r"--to verlo: no such target; known: yaml, verl"),
        ({"target": "csv", "top": 1}, r"--to csv has all trials"),
        ({"target": "hf", "preset": "qwen2.5_32b"}, r"--preset qwen2\.5_32b: hf tells"),
        ({"target": "verl", "preset": "nope"}, r"preset = 'nope'"),
    ],
)
def test_what_cannot_be_chosen_is_a_user_error_and_writes_nothing(tmp_path, options, message):
    results = with_scores(tmp_path / "study", [(0.6, 900), (0.5, 900)])
    with pytest.raises(UserError, match=message):
        prepare(results, options.pop("target", "yaml"), out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [{"pareto": True}, {"top": 2}])
def test_several_trials_are_no_one_file(tmp_path, options):
    results = with_scores(tmp_path / "study", [(0.6, 900), (0.5, 300)])
    with pytest.raises(UserError, match=r"x\.yaml: several trials make a directory .* a name without \.yaml"):
        prepare(results, out=tmp_path / "x.yaml", **options)


def test_the_seed_is_the_trials_at_any_scale(tmp_path):
    results = make_results(tmp_path / "study", [PAPER | {"seed": 7}])
    for preset in (None, "qwen2.5_32b"):
        (one,) = prepare(results, out=tmp_path / "x.yaml", preset=preset)
        assert yaml.safe_load(one.text)["seed"] == 7


def test_the_scale_of_several_gpus_is_trained_with_torchrun(tmp_path):
    results = with_scores(tmp_path / "study", [(0.6, 900)])
    for preset, words in (
        (None, "Train it again: fipo train "),
        ("qwen2.5_7b_math", "Train it again: torchrun --nproc-per-node 8 -m trainer --out runs/golden-trial-0-"),
        ("qwen2.5_32b", "Train it again: torchrun --nnodes 16 --rdzv-backend c10d --rdzv-endpoint HOST:29500 --nproc"),
    ):
        exports = prepare(results, out=tmp_path / "x.yaml", preset=preset)
        assert f"# {words}" in exports[0].text
        *_, then = summary(results, exports)
        assert then.startswith(words) and then.endswith(" " + str(tmp_path / "x.yaml"))


@pytest.mark.parametrize("preset", [None, "qwen2.5_32b"])
def test_the_command_for_trl_is_that_of_the_file(tmp_path, preset):
    results = with_scores(tmp_path / "study", [(0.6, 900)])
    exports = prepare(results, "trl", out=tmp_path / "x.yaml", preset=preset, approximate=True)
    *_, then = summary(results, exports)
    command = then.removeprefix("Run it where TRL is installed: ")
    assert "--accelerate_config" in command and "--num_processes" in command
    assert f"# Run it: {command}".replace(str(tmp_path / "x.yaml"), "THIS_FILE") in exports[0].text


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_local_problem_files_are_named_with_the_hash_that_the_study_began_with(
    make_bridge, run_trial, tmp_path, storage
) -> None:
    train, asks = tmp_path / "train.jsonl", tmp_path / "asks.jsonl"
    train.write_text('{"problem": "1+1=", "answer": "2"}\n')
    asks.write_text('{"problem": "1+2=", "answer": "3"}\n')
    sets = [{"name": "sums_select", "path": str(asks)}, {"name": "sums_report", "path": "embedded:report"}]
    trainer = {"steps": 20, "data": {"train": str(train)}, "evaluation": {"sets": sets}}
    bridge = make_bridge(pruner={"name": "none"}, storage=storage, trainer=trainer)
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.6])
    begun = {path: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in (train, asks)}
    train.write_text("edited afterwards")
    (one,) = prepare(read_study(bridge.directory), out=tmp_path / "best.yaml")
    assert f"; training data {train}, sha256 {begun[train]} when the study began\n" in one.text
    assert f"# sums_select (selected on, {asks}, sha256 {begun[asks]} when the study began) at step 20: " in one.text
    assert "# sums_report (only reported, embedded:report) at step 20: " in one.text


def test_a_study_without_a_complete_trial_says_so(make_bridge, run_trial, tmp_path):
    bridge = make_bridge(trials=2)
    for rest in (r"wait for one, or name a trial", "name a trial"):  # another may still be; none is to come
        run_trial(bridge, [0.2, 0.3])
        with pytest.raises(UserError, match=rf"no trial is COMPLETE \(FAIL\); {rest} with --trial N"):
            prepare(read_study(bridge.directory), out=tmp_path / "x.yaml")


def test_of_a_study_at_rest_without_a_complete_trial_the_resume_is_named(make_bridge, run_trial, tmp_path):
    bridge = make_bridge(trials=2)
    run_trial(bridge, [0.2, 0.3], finish=False)
    resume = rf"no trial is COMPLETE \(STOPPED\); go on with fipo resume {bridge.directory}, or name a trial"
    with pytest.raises(UserError, match=resume):
        prepare(read_study(bridge.directory).at_rest(), out=tmp_path / "x.yaml")


def test_what_is_exported_is_told_with_its_mean_over_fresh_seeds(tmp_path):
    results = with_scores(tmp_path / "study", [(0.6, 900)])
    (trial,) = results.trials
    again = [replace(trial, number=1 + i, confirms=0, value=0.3 + 0.1 * i, beside={"seed": 1 + i}) for i in range(2)]
    results = replace(results, trials=(trial, *again))
    first, *_ = summary(results, prepare(results, out=tmp_path / "x.yaml"))
    assert first.endswith("; over 2 fresh seeds 0.350 ±0.050")


def test_the_head_of_a_config_tells_its_gain_on_the_control_and_the_sets_that_chose_nothing(tmp_path):
    """Over fresh seeds, where its own run is the one that was chosen for being high."""
    results = with_scores(
        tmp_path / "study", [(0.5, 900), (0.9, 900), (0.5, 900), (0.4, 900), (0.7, 900), (0.8, 900)],
        confirms={2: 0, 3: 0, 4: 1, 5: 1},
    )  # fmt: skip
    trials = tuple(
        replace(each, control=None if each.number else "DAPO", beside={"seed": each.number % 2} if each.beside else {})
        for each in results.trials
    )
    results = replace(results, trials=trials)
    (one,) = prepare(results, out=tmp_path / "best.yaml")
    assert one.trial.number == 1
    gain = "Trial 1 against DAPO (trial 0), over 2 fresh seeds of both, paired: +0.300 +- 0.100 on aime_2024/avg@32"
    assert gain in one.text
    assert "aime_2025/avg@32 over 2 fresh seeds" in one.text
    (alone,) = prepare(results, number=0, out=tmp_path / "control.yaml")
    assert gain in alone.text
