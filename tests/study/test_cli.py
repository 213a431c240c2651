"""The command line as a user meets it: exit codes, one-line errors, nothing left behind."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from study.cli import app, main
from study.files import on_the_hub
from trainer.config import TrainerConfig

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(typer.main.get_command(app).commands)


def fipo(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from study.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("launch", "nowhere.yaml"),
        ("launch", "bad.yaml"),
        ("launch", "good.yaml", "--out", "taken"),
        ("launch", "good.yaml", "--set", "fipo.gama=1"),
        ("launch", "good.yaml", "--set", "resources.workers=0"),
        ("launch", "good.yaml", "--set", "data.train=nowhere.jsonl"),
        ("launch", "good.yaml", "--set", "model.path=./nowhere"),
        ("launch", "--trials", "0"),
        ("validate", "good.yaml", "bad.yaml"),
        ("status", "nowhere"),
        ("status",),
        ("export", "taken"),
        ("train", "nowhere.yaml"),
        ("train", "good.yaml"),
        ("train", "trainer.yaml", "--out", "taken"),
        ("eval", "embedded", "--data", "nameless.jsonl"),
        ("eval", "embedded", "--data", "x=nowhere.jsonl"),
        ("import", "nowhere.sh"),
        ("import", "good.yaml", "--out", "bad.yaml"),
        ("import", "good.yaml", "--from", "slime-script"),
        ("resume", "taken"),
        ("stop", "nowhere"),
        ("add", "taken", "--trials", "2"),
        ("enqueue", "taken", "fipo.half_life=8"),
        ("set", "taken", "concurrency"),
        ("dashboard", "nowhere"),
        ("dashboard", "taken"),
        ("dashboard", "sqlite:///nowhere.db"),
        ("dashboard",),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(spec_file, tmp_path, arguments, monkeypatch, capfd):
    good = spec_file(pruner="none")
    good.rename(tmp_path / "good.yaml")
    (tmp_path / "bad.yaml").write_text("name: x\nspace: {fipo.nothing: {type: uniform, low: 0, high: 1}}\n")
    (tmp_path / "trainer.yaml").write_text("steps: 2\n")
    (tmp_path / "taken").mkdir()
    before = sorted(tmp_path.rglob("*"))
    if arguments[0] == "dashboard":  # which becomes another program
        ended = fipo(*arguments, cwd=tmp_path)
        code, complaint = ended.returncode, ended.stderr
    else:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["fipo", *arguments])
        with pytest.raises(SystemExit) as exit:
            main()
        code, complaint = exit.value.code, capfd.readouterr().err
    assert code == 2, complaint
    assert len(complaint.strip().splitlines()) == 1, complaint
    assert "Traceback" not in complaint
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != "studies"] == before


def test_help_is_shown(tmp_path):
    ended = fipo("--help", cwd=tmp_path)
    assert ended.returncode == 0
    assert all(f"│ {command} " in ended.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_explained_with_an_example_that_it_understands(command):
    found = typer.main.get_command(app).commands[command]
    assert found.help
    example = re.fullmatch(rf"Example: fipo {command} (.*)", found.epilog)
    understood(command, shlex.split(example[1]))


def understood(command: str, arguments: list[str]) -> None:
    """Raises for an unknown option, a missing argument or a value of the wrong type."""
    typer.main.get_command(app).commands[command].make_context(command, arguments)


@pytest.mark.parametrize("line", re.findall(r"(?m)^fipo .*$", (ROOT / "README.md").read_text(encoding="utf-8")))
def test_every_command_of_the_readme_is_understood(line):
    _, command, *arguments = shlex.split(line, comments=True)
    understood(command, arguments)


def test_help_loads_nothing_heavy(tmp_path):
    code = (
        "import sys; from study.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'transformers', 'streamlit', 'plotly', 'optuna', 'polars'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, timeout=60)


def test_validate_goes_through_all_files_and_says_what_is_wrong_with_each(tmp_path):
    for name, text in (("a", "trials: 0"), ("b", "pruner: aimee"), ("c", "trials: 4")):
        spec = f"name: {name}\nspace: {{fipo.half_life: {{type: uniform, low: 4, high: 8}}}}\n{text}\n"
        (tmp_path / f"{name}.yaml").write_text(spec)
    ended = fipo("validate", "a.yaml", "b.yaml", "c.yaml", cwd=tmp_path)
    assert ended.returncode == 2
    *refused, warning = ended.stderr.splitlines()
    assert [line.split(":")[0] for line in refused] == ["a.yaml", "b.yaml"]
    assert warning.startswith("Warning: c.yaml: pruner aime can never stop a trial: n_startup_trials = 4")
    assert "pruner.name = 'aimee' is not known" in ended.stderr
    assert ended.stdout.startswith("c.yaml: ")


def test_validate_tells_what_the_model_cannot_read_and_refuses_a_set_of_nothing_else(tmp_path):
    words, sums = ('{"problem": "What is 18 + 46?", "answer": "64"}\n', '{"problem": "1+1=", "answer": "2"}\n')
    (tmp_path / "words.jsonl").write_text(words)
    (tmp_path / "some.jsonl").write_text(sums + words)
    for name in ("words", "some"):
        spec = "name: a\nspace: {fipo.half_life: {type: uniform, low: 4, high: 8}}\npruner: none\n"
        trainer = {"data": {"train": f"{name}.jsonl"}, "rollout": {"prompts_per_step": 2}}
        trainer["optimizer"] = {"prompts_per_minibatch": 1}
        (tmp_path / f"{name}.yaml").write_text(spec + yaml.safe_dump({"trainer": trainer}))
    ended = fipo("validate", "words.yaml", "some.yaml", cwd=tmp_path)
    assert ended.returncode == 2
    refused, warning = ended.stderr.splitlines()
    assert refused.startswith("words.yaml: trainer.data.train = 'words.jsonl': the tokenizer of trainer.model.path")
    assert "loses characters in 1 of 1 prompts (the first is 'What is 18 + 46?'" in refused
    assert warning.startswith("Warning: some.yaml: trainer.data.train = 'some.jsonl': the tokenizer of ")
    assert "loses characters in 1 of 2 prompts" in warning


def test_validate_names_what_each_spec_sweeps_and_the_files_that_are_not_there(tmp_path):
    local = yaml.safe_load((ROOT / "search_spaces" / "gamma_epsilon_f.yaml").read_text())
    local["trainer"]["data"]["train"] = "data/train.jsonl"
    for evaluation_set in local["trainer"]["evaluation"]["sets"]:
        evaluation_set["path"] = f"data/{evaluation_set['name']}.jsonl"
    (tmp_path / "local.yaml").write_text(yaml.safe_dump(local))
    missing = fipo("validate", "local.yaml", cwd=tmp_path)
    assert missing.returncode == 2
    keys = ["data.train", "evaluation.sets[0].path", "evaluation.sets[1].path"]
    assert [line.split(" = ")[0] for line in missing.stderr.splitlines()] == [
        f"local.yaml: trainer.{key}" for key in keys
    ]
    (tmp_path / "data").mkdir()
    for name in ("train", "aime_2024", "aime_2025"):
        (tmp_path / "data" / f"{name}.jsonl").write_text('{"problem": "1+1=", "answer": "2"}\n')
    specs = [*sorted((ROOT / "search_spaces").glob("*.yaml")), "local.yaml"]
    ended = fipo("validate", *map(str, specs), cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert [line.split(":")[0] for line in ended.stdout.splitlines()] == [str(path) for path in specs]
    assert "aime_2024/avg@32" in ended.stdout
    assert [line.split(" problems are in ")[0] for line in ended.stderr.splitlines()] == [
        "Warning: local.yaml: trainer.evaluation.sets[0].path = 'data/aime_2024.jsonl': 1 of its 1",
        "Warning: local.yaml: trainer.evaluation.sets[1].path = 'data/aime_2025.jsonl': 1 of its 1",
        "Warning: local.yaml: trainer.evaluation.sets[1].path = 'data/aime_2025.jsonl': 1 of its 1",
        "Warning: local.yaml: trainer.data.train = 'data/train.jsonl': has 1 problems, and a step samples"
        " rollout.prompts_per_step = 512, some more than once; give more, or lower that",
    ]


def test_status_names_the_directory_and_the_values_beside_the_space(make_bridge, run_trial, monkeypatch, capfd):
    bridge = make_bridge(enqueue=[{"label": "DAPO", "values": {"fipo.epsilon_f_high": 0.0}}])
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.6])
    bridge.stop(run_trial(bridge, [0.2], finish=False))
    bridge.finish(1)
    monkeypatch.setattr(sys, "argv", ["fipo", "status", str(bridge.directory)])
    with pytest.raises(SystemExit, match="0"):
        main()
    first, *others = capfd.readouterr().out.splitlines()
    assert first == f"Study unit in {bridge.directory}"
    assert "trial 0 (DAPO), not in space: fipo.epsilon_f_high 0" in others
    assert "trial 1 ended early, not by the pruner: stopped by hand" in others


@pytest.mark.parametrize("opened", [os.pipe, os.openpty])
def test_a_study_ends_as_it_does_where_no_one_reads_its_output_any_more(make_bridge, run_trial, tmp_path, opened):
    bridge = make_bridge(trials=1)
    run_trial(bridge, [0.2, 0.3, 0.4, 0.5, 0.6])
    undriven = shutil.copytree(bridge.directory, tmp_path / "copy")
    reading, writing = opened()
    os.close(reading)

    def resume(directory: Path, **streams: int) -> int:
        command = [sys.executable, "-c", "from study.cli import main; main()", "resume", str(directory)]
        return subprocess.run(command, cwd=tmp_path, timeout=120, check=False, **streams).returncode

    assert resume(undriven, stdout=writing, stderr=writing) == 0
    assert resume(tmp_path / "nowhere", stderr=writing) == 2
    os.close(writing)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("validate", "trainer.yaml"), "trainer.yaml: this is a trainer config; run it with: fipo train trainer.yaml"),
        (("train", "study.yaml"), "study.yaml: this is a study file; run it with: fipo launch study.yaml"),
        (("train", "lost.yaml"), "lost.yaml: data.train = 'nowhere.jsonl': no such file"),
        (("eval", "some/model", "--data", "x=nowhere.jsonl"), "evaluation.sets[0].path = 'nowhere.jsonl': no such"),
        (("eval", "./nowhere", "--data", "x=embedded:select"), "model.path = './nowhere': no config.json there"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_was_meant_or_is_missing_is_said_before_anything_is_loaded(tmp_path, arguments, words, monkeypatch, capfd):
    (tmp_path / "trainer.yaml").write_text("steps: 2\nfipo: {half_life: 8}\n")
    (tmp_path / "study.yaml").write_text("name: x\nspace: {fipo.gamma: {type: uniform, low: 0, high: 1}}\n")
    (tmp_path / "lost.yaml").write_text("model: {path: no-one/nothing}\ndata: {train: nowhere.jsonl}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fipo", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    (complaint,) = capfd.readouterr().err.splitlines()
    assert words in complaint


def test_what_an_evaluation_looks_for_on_the_hub_is_named():
    sets = [{"name": name, "path": path} for name, path in (("a", "embedded:select"), ("b", "owner/problems"))]
    config = TrainerConfig.model_validate({"model": {"path": "owner/model"}, "evaluation": {"sets": sets}})
    assert on_the_hub(config) == ["owner/model", "owner/problems"]
    assert on_the_hub(TrainerConfig()) == []


@pytest.mark.parametrize(
    ("more", "trials", "aim"),
    [("", "20 trials", "avg@8"), ("trials: 1\nagainst: length", "1 trial", "avg@8 and minimizing its length")],
)
def test_validate_tells_both_aims(tmp_path, more, trials, aim, monkeypatch, capfd):
    spec = f"name: x\nspace: {{fipo.half_life: {{type: uniform, low: 4, high: 8}}}}\npruner: none\n{more}\n"
    (tmp_path / "x.yaml").write_text(spec)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fipo", "validate", "x.yaml"])
    with pytest.raises(SystemExit, match="0"):
        main()
    said = f"{trials} over fipo.half_life, maximizing sums_select/{aim}; 1 core a trial, 2 at a time"
    assert capfd.readouterr().out == f"x.yaml: {said}\n"
