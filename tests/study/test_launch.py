"""What a launch checks before it starts is read by the same code that trains."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import polars
import pytest
import yaml
from optuna.trial import TrialState
from rich.console import Console

import trainer.data
from study.bridge import Bridge
from study.check import load_spec, load_with_files
from study.cli import main
from study.directory import Staging
from study.display import Display, conclusion
from study.ending import ending, note_ending
from study.launch import _results, _run, prepare, resume
from study.lock import driver, driver_lock
from study.storage import driving
from trainer.errors import UserError
from trainer.problems import Problem


@pytest.fixture
def verl_file(tmp_path: Path) -> Path:
    """One problem in verl's schema, its answer an expression."""
    row = {"prompt": [{"role": "user", "content": "1+1="}], "reward_model": {"ground_truth": r"\frac{1}{2}"}}
    path = tmp_path / "verl.parquet"
    polars.DataFrame([row]).write_parquet(path)
    return path


@pytest.fixture
def shown() -> Iterator[tuple[Display, io.StringIO]]:
    """A display, and what it has shown."""
    text = io.StringIO()
    display = Display(Console(file=text))
    yield display, text
    display.close()


def test_training_data_may_have_every_schema_that_the_trainer_reads(make_spec, verl_file, random_model, shown) -> None:
    prepare(make_spec(trainer={"model": {"path": str(random_model)}, "data": {"train": str(verl_file)}}), shown[0])


def test_an_aime_set_without_integer_answers_is_refused_before_anything_starts(
    make_spec, verl_file, random_model, shown
) -> None:
    sets = [{"name": "aime_2024", "path": str(verl_file)}]
    spec = make_spec(trainer={"model": {"path": str(random_model)}, "evaluation": {"sets": sets}})
    with pytest.raises(UserError, match="an AIME answer is an integer"):
        prepare(spec, shown[0])


FEW = {"rollout": {"prompts_per_step": 2}, "optimizer": {"prompts_per_minibatch": 1}}
NONE = {"name": "none"}


def test_that_a_step_takes_more_problems_than_there_are_is_told(make_spec, tmp_path, monkeypatch, shown) -> None:
    monkeypatch.setattr("trainer.base_model.ensure_base_model", lambda progress: tmp_path)
    path = tmp_path / "own.jsonl"
    path.write_text("".join(f'{{"problem": "{n}+1=", "answer": "{n + 1}"}}\n' for n in (1, 2)))
    prepare(make_spec(pruner=NONE, trainer=FEW | {"data": {"train": str(path)}}), shown[0])
    assert shown[1].getvalue() == ""
    prepare(make_spec(pruner=NONE, trainer={"data": {"train": str(path)}}), shown[0])
    assert shown[1].getvalue() == (
        f"Warning: trainer.data.train = {str(path)!r}: has 2 problems, and a step samples rollout.prompts_per_step ="
        " 16, some more than once; give more, or lower that\n"
    )


def test_a_chat_format_that_the_tokenizer_does_not_have_is_refused_before_anything_starts(make_spec, shown) -> None:
    for data in ({"chat": True}, {"chat": True, "train": "embedded:train"}):
        with pytest.raises(UserError, match=r"data\.chat = true: the tokenizer has no chat template"):
            prepare(make_spec(trainer={"data": data}), shown[0])


def test_problems_that_the_model_cannot_read_are_told_and_refused_where_none_is_left(
    make_spec, tmp_path, monkeypatch, shown
) -> None:
    monkeypatch.setattr("trainer.base_model.ensure_base_model", lambda progress: tmp_path)
    display, text = shown
    path = tmp_path / "own.jsonl"
    words = '{"problem": "What is 18 + 46?", "answer": "64"}\n'
    path.write_text(words + '{"problem": "1+1=", "answer": "2"}\n')
    prepare(make_spec(pruner=NONE, trainer=FEW | {"data": {"train": str(path)}}), display)
    assert text.getvalue() == (
        f"Warning: trainer.data.train = {str(path)!r}: the tokenizer of trainer.model.path = 'embedded' loses"
        " characters in 1 of 2 prompts (the first is 'What is 18 + 46?', of which the model reads '18+46');"
        " it knows + 0 1 2 3 4 5 6 7 8 9 ; = }; choose another model, or write the problems with what it knows\n"
    )
    path.write_text(words)
    with pytest.raises(UserError, match=r"sets\[1\].path = .*loses characters in 1 of 1 prompts .*it knows \+ 0 1"):
        sets = [{"name": "a", "path": "embedded:select"}, {"name": "b", "path": str(path)}]
        prepare(make_spec(trainer={"evaluation": {"sets": sets}}), display)
    path.write_text('{"problem": "1+1=", "answer": "2"}\n')
    with pytest.raises(UserError, match=r"1 of 1 prompts \(.*\), as data\.template = 'boxed' writes them"):
        prepare(make_spec(trainer={"data": {"train": str(path), "template": "boxed"}}), display)


def test_problems_that_two_sets_share_are_told_once_for_each_pair(make_spec, tmp_path, monkeypatch, shown) -> None:
    monkeypatch.setattr("trainer.base_model.ensure_base_model", lambda progress: tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, numbers, end in (
        ("train", range(10), ""),
        ("chooses", range(8, 12), " "),
        ("reports", range(11, 14), ""),
    ):
        rows = [f'{{"problem": "{number}+1={end}", "answer": "{number + 1}"}}\n' for number in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))

    def told(train: str, *paths: str) -> list[str]:
        sets = [{"name": f"set{at}", "path": path} for at, path in enumerate(paths)]
        trainer = FEW | {"data": {"train": train}, "evaluation": {"sets": sets}}
        prepare(make_spec(pruner=NONE, trainer=trainer), shown[0])
        lines = shown[1].getvalue().splitlines()
        shown[1].seek(0)
        shown[1].truncate()
        return [line for line in lines if not line.startswith("Base model")]

    heart = "so its accuracy tells what was learnt by heart; take them out of one of the two"
    independent = "so neither set is an independent check of the other; take them out of one of the two"
    assert told("train.jsonl", "chooses.jsonl", "reports.jsonl") == [
        "Warning: trainer.evaluation.sets[0].path = 'chooses.jsonl': 2 of its 4 problems are in"
        f" trainer.data.train = 'train.jsonl' too, {heart}",
        "Warning: trainer.evaluation.sets[1].path = 'reports.jsonl': 1 of its 3 problems are in"
        f" trainer.evaluation.sets[0].path = 'chooses.jsonl' too, {independent}",
    ]
    assert told("reports.jsonl", "reports.jsonl") == [
        "Warning: trainer.evaluation.sets[0].path = 'reports.jsonl': 3 of its 3 problems are in"
        f" trainer.data.train = 'reports.jsonl' too, {heart}"
    ]
    assert told("embedded:train", "embedded:select", "embedded:report") == []
    assert told("train.jsonl", "reports.jsonl", "embedded:report") == []


def test_a_hub_set_that_is_shared_is_told_once_it_is_there(make_spec, spec_file, tmp_path, monkeypatch, shown) -> None:
    monkeypatch.setattr("trainer.base_model.ensure_base_model", lambda progress: tmp_path)
    read = trainer.data.load_problems
    asked = []
    monkeypatch.setattr(
        "trainer.data.load_problems",
        lambda path: (asked.append(path), [Problem("1+1=", "2")])[1] if path == "owner/name" else read(path),
    )
    sets = [{"name": "a", "path": "owner/name"}, {"name": "b", "path": "embedded:report"}]
    changes = {"trainer": {"data": {"train": "owner/name"}, "evaluation": {"sets": sets}}}
    assert load_with_files(spec_file(**changes))[1] == [] and not asked
    prepare(make_spec(**changes), shown[0])
    assert "1 of its 1 problems are in trainer.data.train = 'owner/name' too" in shown[1].getvalue()


def test_a_model_without_a_tokenizer_is_refused_with_its_key(make_spec, tmp_path, random_model, shown) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((random_model / "config.json").read_text())
    with pytest.raises(
        UserError, match=r"^trainer\.model\.path = .*bare: has no tokenizer that can tell numbers apart"
    ):
        prepare(make_spec(trainer={"model": {"path": str(bare)}}), shown[0])


def test_a_model_with_fewer_positions_than_a_response_has_tokens_is_refused(make_spec, random_model, shown) -> None:
    """256 positions; the shipped 7B recipe asks for more than its model's config.json allows."""
    changes = {"model": {"path": str(random_model)}, "rollout": {"max_response_length": 256}}
    with pytest.raises(UserError, match=r"^trainer\.model\.path = .*allows 256 positions, .*max_response_length = 256"):
        prepare(make_spec(trainer=changes), shown[0])


@pytest.mark.parametrize(("backend", "refused"), [("auto", True), ("vllm", True), ("transformers", False)])
def test_a_model_whose_heads_an_engine_cannot_share_out_is_refused_with_its_files(
    spec_file, random_model, backend, refused
) -> None:
    """One key-value head: each trial would load the whole model first, and only then be refused."""
    rollout = {"backend": backend, "vllm": {"tensor_parallel_size": 2}}
    path = spec_file(trainer={"model": {"path": str(random_model)}, "rollout": rollout}, resources={"workers": 2})
    if not refused:
        load_with_files(path)
        return
    with pytest.raises(UserError, match=r"trainer\.model\.path = .*: its 1 key-value heads .*tensor_parallel_size = 2"):
        load_with_files(path)


def test_on_a_cluster_a_relative_problem_file_is_refused(make_spec, tmp_path, monkeypatch, shown) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.jsonl").write_text('{"problem": "1+1=", "answer": "2"}\n')
    changes = {"trainer": {"data": {"train": "own.jsonl"}}}
    prepare(make_spec(**changes), shown[0])
    with pytest.raises(UserError, match=rf"trainer\.data\.train = 'own\.jsonl': .*write {tmp_path}/own\.jsonl"):
        prepare(make_spec(**changes, resources={"ray_address": "auto"}), shown[0])
    swept = {"space": {"data.train": {"type": "choice", "values": ["embedded:train", "own.jsonl"]}}}
    with pytest.raises(UserError, match=r"^space\.data\.train = 'own\.jsonl': "):
        prepare(make_spec(**swept, resources={"ray_address": "auto"}), shown[0])


def test_a_launch_into_a_study_that_is_there_says_how_to_go_on(make_spec, tmp_path) -> None:
    staging = Staging(make_spec(), tmp_path / "study")
    directory = staging.publish()
    staging.discard()
    with pytest.raises(UserError, match=rf"exists; .*, or go on with it: fipo resume {directory}$"):
        Staging(make_spec(), directory)


def test_a_study_on_a_full_disk_is_not_taken_up_in_one_line(make_spec, tmp_path, full_disk) -> None:
    staging = Staging(make_spec(), tmp_path / "study")
    directory = staging.publish()
    staging.discard()
    with full_disk(), pytest.raises(UserError, match="File too large; mend that, and go on with: fipo resume"):
        resume(directory, Display(Console(file=io.StringIO())))
    assert driver(directory) is None


def test_an_edited_study_file_is_told_key_by_key(make_spec, tmp_path) -> None:
    staging = Staging(make_spec(trials=1), tmp_path / "study")
    directory = staging.publish()
    staging.discard()
    with driving(make_spec(), directory) as study:
        study.tell(study.ask(), state=TrialState.FAIL)  # nothing is left to run
    path = directory / "study.yaml"
    data = yaml.safe_load(path.read_text())
    text = io.StringIO()
    resume(directory, Display(Console(file=text)))
    assert "Warning" not in text.getvalue()
    data["space"]["optimizer.learning_rate"]["high"] = 0.5
    path.write_text(yaml.safe_dump(data | {"metric": "pass@k", "concurrency": 7}))
    resume(directory, Display(Console(file=text)))
    assert (
        "was edited since the study began: metric was avg@k, space.optimizer.learning_rate.high was 0.01."
        in text.getvalue()
    )


def test_an_edited_problem_file_is_told_by_its_name(make_spec, tmp_path) -> None:
    rows = {name: f'{{"problem": "1+{at}=", "answer": "{at + 1}"}}\n' for at, name in enumerate(("asks", "a", "b"))}
    paths = {name: tmp_path / f"{name}.jsonl" for name in rows}
    for name, row in rows.items():
        paths[name].write_text(row)
    sets = [{"name": "s", "path": str(paths["asks"])}, {"name": "t", "path": "embedded:report"}]
    trains = {"type": "choice", "values": [str(paths["a"]), str(paths["b"])]}
    spec = make_spec(trials=1, space={"data.train": trains}, trainer={"evaluation": {"sets": sets}})
    staging = Staging(spec, tmp_path / "study")
    directory = staging.publish()
    staging.discard()
    with driving(spec, directory) as study:
        study.tell(study.ask(), state=TrialState.FAIL)  # nothing is left to run

    def told() -> list[str]:
        text = io.StringIO()
        resume(directory, Display(Console(file=text)))
        return [line for line in text.getvalue().splitlines() if line.startswith("Warning")]

    assert told() == []
    line = "Warning: {} was edited since the study began. Trials before and after cannot be compared; put back what it"
    for name in ("asks", "b"):
        paths[name].write_text(rows[name].replace("+", "+1+"))
        assert told() == [f"{line.format(paths[name])} held, or launch another study"]
        paths[name].write_text(rows[name])
    with driving(spec, directory) as study:
        study.set_user_attr("files", {})  # as in a study that an earlier version began
    paths["a"].write_text("")
    assert told() == []


@pytest.mark.parametrize(("trials", "evaluations", "stops"), [(1, 5, False), (2, 5, True), (1, 3, True)])
def test_a_budget_stops_a_study_only_where_something_is_left(
    make_bridge, run_trial, monkeypatch, shown, tmp_path, trials, evaluations, stops
) -> None:
    """Also where all trials have begun, and one was stopped on its way: it is left to be resumed."""

    def one_trial(bridge, *_, **__) -> None:
        number = run_trial(bridge, [0.1] * evaluations, finish=False)
        bridge.end("budget.gpu_hours = 1 is spent")
        bridge.finish(number)

    monkeypatch.setattr("study.tuner.run_trials", one_trial)
    monkeypatch.setattr("study.launch.places", lambda resources: 1)
    monkeypatch.setattr("study.launch.engines_apart", lambda resources, width: None)
    told = []
    bridge = make_bridge(trials=trials, pruner={"name": "none"})
    bridge.notifier.tell = lambda event, text, **values: told.append(text)
    note_ending(bridge.directory, "interrupted by a signal")  # by an earlier driver
    results = _run(bridge, shown[0], tmp_path)
    assert (ending(bridge.directory) or "").endswith(" budget.gpu_hours = 1 is spent") == stops
    assert stops or ending(bridge.directory) is None
    assert [trial.state for trial in results.trials] == ["COMPLETE" if evaluations == 5 else "RUNNING"]
    assert ("Stopping: budget.gpu_hours" in shown[1].getvalue()) == stops
    assert told[-1] == f"the study has ended: {'budget.gpu_hours = 1 is spent' if stops else 'all trials are done'}"


def test_that_a_signal_has_ended_a_study_is_told(make_bridge, monkeypatch, shown, tmp_path, capfd) -> None:
    """As at the time limit of a scheduler."""

    def killed(*_, **__) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("study.tuner.run_trials", killed)
    monkeypatch.setattr("study.launch.places", lambda resources: 1)
    monkeypatch.setattr("study.launch.engines_apart", lambda resources, width: None)
    bridge, told = make_bridge(), []
    bridge.notifier.tell = lambda event, text, **values: told.append((event, values))
    with pytest.raises(KeyboardInterrupt):
        _run(bridge, shown[0], tmp_path)
    assert told == [("finished", {"ending": "interrupted"})]
    assert str(ending(bridge.directory)).endswith(" interrupted by a signal")
    assert capfd.readouterr().out.endswith(" the study ends early: interrupted by a signal\n")  # driver.log, at work


@pytest.mark.parametrize("trials", [1, 2])
def test_a_control_that_has_failed_is_told_where_its_study_is_looked_at(
    trials, make_spec, tmp_path, monkeypatch, capsys
) -> None:
    """When it is taken up, where anything is left to run, at its end, and in between."""
    control = {"label": "DAPO", "values": {"fipo.epsilon_f_high": 0.0}}
    spec = make_spec(trials=trials, enqueue=[control], pruner=NONE)
    staging = Staging(spec, tmp_path / "study")
    directory = staging.publish()
    staging.discard()
    with driving(spec, directory) as study:
        bridge = Bridge(study, spec, directory)
        bridge.fail(bridge.ask().number, "no such file")
        bridge.finish(0)
    told = "trial 0 (DAPO) has failed, and is not tried again: nothing will be compared"
    text = io.StringIO()
    monkeypatch.setattr("study.launch._run", lambda bridge, *_: _results(bridge))
    ended = resume(directory, Display(Console(file=text, width=500))).at_rest()
    assert text.getvalue().count(f"Warning: {told}") == trials - 1
    assert "\n".join(conclusion(ended, directory)).count(told) == 1
    monkeypatch.setattr("sys.argv", ["fipo", "status", str(directory)])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.count(told) == 1


def test_what_differs_from_a_study_that_goes_on_is_named(spec_file, tmp_path, monkeypatch, capfd) -> None:
    path = spec_file()
    staging = Staging(load_spec(path), tmp_path / "study")
    directory = staging.publish()
    staging.discard()
    command = ["fipo", "launch", str(path), "--out", str(directory), "--resume"]
    says = "goes on as its study.yaml says; what is given differs in"
    with driver_lock(directory):  # so that it ends before it begins
        for more, differing in (([], None), (["--trials", "3", "--set", "seed=7"], f"{says} trials, sampler, seed\n")):
            monkeypatch.setattr("sys.argv", command + more)
            with pytest.raises(SystemExit):
                main()
            told = capfd.readouterr().err
            assert says not in told if differing is None else differing in told


def test_a_launch_that_is_to_resume_goes_on_with_the_study_of_that_name(spec_file, tmp_path, monkeypatch, capfd):
    path = spec_file()
    spec = load_spec(path)
    monkeypatch.chdir(tmp_path)
    staging = Staging(spec, Path("studies") / spec.name)
    directory = staging.publish()
    staging.discard()
    monkeypatch.setattr("sys.argv", ["fipo", "launch", str(path), "--resume"])
    with driver_lock(directory), pytest.raises(SystemExit):  # so that it ends before it begins
        main()
    assert f"studies/{spec.name}: is driven by" in capfd.readouterr().err
    assert [each.name for each in (tmp_path / "studies").iterdir()] == [spec.name]
