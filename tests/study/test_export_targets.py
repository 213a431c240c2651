"""What the exported scripts and files say to the trainers they are for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from study.export import TARGETS, prepare, summary, write
from study.export.hf import model_card
from study.export.recipe import make_recipe
from study.spec import Resources
from tests.study.exported import PAPER, make_results

GOLDEN = Path(__file__).parent / "export_golden"
SCRIPTS = [name for name, target in TARGETS.items() if target.suffix.endswith(".sh")]
BOTH = PAPER | {"fipo.epsilon_f_low": 0.2}


def schema(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{name}.schema.json").read_text())


@pytest.fixture
def export(tmp_path):
    def run(target: str, point: dict[str, Any] = PAPER, **options: Any) -> str:
        results = make_results(tmp_path / "study", [point], embedded=options.pop("embedded", False))
        (one,) = prepare(results, target, out=tmp_path / "out", **options)
        write(results, [one])
        return (tmp_path / "out").read_text()

    return run


def arguments(script: str, tmp_path: Path, *more: str) -> list[str]:
    """What the program of an exported script is called with: the script is run by bash with a stand-in program."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    models = tmp_path / "scripts/models"
    models.mkdir(parents=True, exist_ok=True)
    (tmp_path / "model.sh").write_text("MODEL_ARGS=(--model-argument)\n")
    code = "import sys; sys.stdout.buffer.write(b'\\0'.join(map(lambda a: a.encode(), sys.argv[1:])))"
    for name in ("python3", "swift"):
        stand_in = tmp_path / "bin" / name
        stand_in.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
        stand_in.chmod(0o755)
    path = tmp_path / "script.sh"
    path.write_text(script, encoding="utf-8")
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "MODEL_SCRIPT": str(tmp_path / "model.sh")}
    done = subprocess.run(
        ["bash", str(path), *more], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split("\0")


def verl_config(overrides: list[str], tmp_path: Path) -> Any:
    """The fork's config (its keys, all mandatory values) with `overrides`, composed by Hydra in struct mode."""

    def blank(value: Any) -> Any:
        return {key: blank(each) for key, each in value.items()} if isinstance(value, dict) else "none yet"

    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/dapo_trainer.yaml").write_text(yaml.safe_dump(blank(schema("verl")["config"])))
    with initialize_config_dir(str(tmp_path / "conf"), version_base=None):
        return compose("dapo_trainer", overrides=overrides)


def test_every_target_has_a_golden_file():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_the_file_is_the_golden_one(export, target, tmp_path):
    if target == "hf":  # a directory, of which the card is text
        results = make_results(tmp_path / "study", [BOTH])
        text = model_card(results, results.trials[0], step=500)
    else:
        text = export(target, BOTH, approximate=True)
    text = re.sub(r"<(script|style).*?</\1>|<div[^>]*plotly-graph-div[^>]*>", "", text, flags=re.DOTALL)  # Plotly's own
    for pattern, name in (  # the place, the day, the versions and the commit
        (re.escape(f"{tmp_path}/"), ""),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", "DATE"), (r"fipo-study \d[^\"<\n]*", "VERSIONS"),
    ):  # fmt: skip
        text = re.sub(pattern, name, text)
    text = re.sub(r"\d+\.\d{7,}", lambda number: f"{float(number[0]):.6f}", text)  # the last digits are the machine's
    golden = GOLDEN / f"{target}.txt"
    if os.environ.get("FIPO_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("target", SCRIPTS)
def test_bash_and_shellcheck_accept_the_script(export, tmp_path, target):
    export(target, approximate=True)
    subprocess.run(["bash", "-n", str(tmp_path / "out")], check=True)
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_hydra_composes_the_verl_overrides_over_the_forks_own_keys(export, tmp_path):
    overrides = arguments(export("verl"), tmp_path)[2:]  # after -m recipe.dapo.main_dapo
    config = verl_config(overrides, tmp_path)
    actor = config.actor_rollout_ref.actor
    loss = OmegaConf.to_container(actor.policy_loss)
    assert {key: loss[key] for key in ("loss_mode", "decay_rate", "future_kl_clip_ratio", "safety_thresh")} == {
        "loss_mode": "future_kl", "decay_rate": 32.0, "future_kl_clip_ratio": 0.2, "safety_thresh": 3.0,
    }  # fmt: skip
    assert loss["future_kl_clip_high_only"] is True
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.clip_ratio_c) == (0.2, 0.28, 10.0)
    assert actor.use_kl_loss is False
    assert actor.optim.lr == 1e-6
    assert config.data.max_response_length == 10240
    assert (config.data.train_batch_size, actor.ppo_mini_batch_size) == (512, 64)
    assert config.actor_rollout_ref.rollout.n == 32
    assert config.data.val_files == ["data/aime_2024.parquet", "data/aime25.parquet"]


def test_verl_values_have_the_types_of_the_forks_config(export, tmp_path):
    overrides = arguments(export("verl"), tmp_path)[2:]
    config, types = verl_config(overrides, tmp_path), schema("verl")["config"]
    allowed = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "NoneType": (int, float, str)}
    for override in overrides:
        key = override.partition("=")[0]
        if key.startswith("++"):
            continue
        kind = types
        for part in key.split("."):
            kind = kind[part]
        value = OmegaConf.select(config, key)
        if key.endswith(("top_p", "temperature")):
            kind = "float"  # its YAML writes them as whole numbers
        if kind in allowed and key != "data.val_files":  # which takes one or a list
            assert type(value) in allowed[kind], (key, value, kind)


@pytest.mark.parametrize("point", [PAPER, PAPER | {"fipo.epsilon_f_high": 0.0}])
def test_every_verl_key_is_one_that_the_forks_dataclasses_take(export, tmp_path, point):
    """Hydra lets ++ add any key; the class that it is for then ends the run with a TypeError."""
    recorded = schema("verl")
    for override in arguments(export("verl", point, preset="qwen2.5_32b", approximate=True), tmp_path)[2:]:
        key = override.partition("=")[0]
        node = recorded["config"]
        for part in key.removeprefix("++").split("."):
            taken = recorded["dataclasses"].get(str(node.get("_target_")).rpartition(".")[2])
            assert taken is None or part in taken, key
            assert part in node or (key.startswith("++") and (taken or key == "++data.seed")), key
            node = node[part] if isinstance(node.get(part), dict) else {}


@pytest.mark.parametrize("target", SCRIPTS)
def test_a_recorded_schema_says_of_what_it_was_made_and_by_what(target):
    """So that it can be made anew when the trainer changes."""
    recorded = schema(target)
    version = recorded["version"] if target == "ms-swift" else recorded["commit"]
    assert re.fullmatch(r"\d+\.\d+\.\d+|[0-9a-f]{40}", version)
    script, name = recorded["recorded_by"].split()
    assert name == target and (GOLDEN / script).exists()
    assert recorded["source"].startswith("https://")


def test_what_is_given_to_the_script_comes_last(export, tmp_path):
    assert arguments(export("verl"), tmp_path, "trainer.nnodes=7")[-1] == "trainer.nnodes=7"


def parsed(words: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """Parse like the trainer: unknown options, wrong types and wrong choices are errors."""
    kinds = {"int": int, "float": float}
    values: dict[str, Any] = {}
    position = 0
    while position < len(words):
        name, equals, value = words[position].partition("=")
        position += 1
        option = options[name]
        given = [value] if equals else []
        while not equals and position < len(words) and not words[position].startswith("--"):
            given.append(words[position])
            position += 1
        assert len(given) == 1 or option["many"] or (option["flag"] and not given), (name, given)
        if option["type"] == "string_to_bool":
            assert set(given) <= {"true", "false"}, (name, given)
        read = [kinds.get(option["type"], str)(each) for each in given]
        assert not option["choices"] or set(read) <= set(option["choices"]), (name, given)
        values[name] = read if option["many"] else read[0] if read else True
    return values


def test_ms_swifts_own_options_take_the_arguments(export, tmp_path):
    values = parsed(arguments(export("ms-swift", approximate=True), tmp_path)[1:], schema("ms-swift")["options"])
    expected = {
        "--rlhf_type": "grpo", "--loss_type": ["fipo"], "--fipo_decay_rate": 32.0, "--fipo_clip_range": 0.2,
        "--fipo_clip_high_only": "true", "--fipo_safety_threshold": 3.0, "--delta": 10.0, "--epsilon": 0.2,
        "--epsilon_high": 0.28, "--beta": 0.0, "--num_generations": 32, "--generation_batch_size": 512 * 32,
        "--reward_funcs": ["accuracy", "soft_overlong"], "--reward_weights": [2.0, 1.0], "--top_p": 1.0,
    }  # fmt: skip
    assert {key: values[key] for key in expected} == expected
    gpus = 8
    assert values["--gradient_accumulation_steps"] * gpus == 64 * 32  # one minibatch
    assert values["--per_device_eval_batch_size"] * gpus % values["--num_generations_eval"] == 0


def test_ms_swift_refuses_a_machine_that_cannot_divide_the_minibatch(export, tmp_path):
    script = export("ms-swift", approximate=True)
    (tmp_path / "script.sh").write_text(script)
    done = subprocess.run(
        ["bash", str(tmp_path / "script.sh")], env=os.environ | {"NPROC_PER_NODE": "7"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "NNODES x NPROC_PER_NODE = 7 does not divide the 2048 responses" in done.stderr


def test_slimes_own_options_take_the_arguments(export, tmp_path):
    known = schema("slime")
    other = {name: {"type": None, "choices": None, "flag": True, "many": False} for name in known["megatron"]}
    options = other | known["options"]
    words = arguments(export("slime", PAPER | {"fipo.epsilon_f_low": 0.1}, approximate=True), tmp_path)
    assert words[:2] == ["train.py", "--model-argument"]
    values = parsed(words[2:], options)
    expected = {
        "--loss-type": "fipo_loss", "--advantage-estimator": "grpo", "--use-rollout-logprobs": True,
        "--fipo-decay-rate": 32.0, "--fipo-clip-ratio-low": 0.1, "--fipo-clip-ratio-high": 0.2,
        "--fipo-safety-thresh": 3.0, "--fipo-dual-clip-c": 10.0, "--eps-clip": 0.2, "--eps-clip-high": 0.28,
        "--kl-coef": 0.0, "--entropy-coef": 0.0, "--global-batch-size": 64 * 32, "--rm-type": "dapo",
    }  # fmt: skip
    assert {key: values[key] for key in expected} == expected
    assert "--use-kl-loss" not in values and "--sequence-parallel" not in values
    assert values["--eval-prompt-data"] == ["aime_2024", "data/aime_2024.jsonl", "aime_2025", "data/aime25.jsonl"]


def test_gpus_that_share_a_sequence_do_so_in_slime_too(export, tmp_path):
    words = arguments(export("slime", embedded=True, preset="qwen2.5_32b", approximate=True), tmp_path)
    assert "--sequence-parallel" in words


@pytest.mark.slow
def test_trls_own_parser_takes_the_file(export, tmp_path):
    """In a process of its own, as `trl grpo --config` reads it: the class sets up devices when it is made."""
    export("trl", approximate=True)
    code = (
        "import sys; from trl.scripts.grpo import make_parser\n"
        # One process without a GPU stands for the 8: no bf16, 8 times the passes.
        "more = ['--config', sys.argv[1], '--bf16', 'false', '--gradient_accumulation_steps', '2048']\n"
        "script, c, model, data = make_parser().parse_args_and_config(more, fail_with_unknown_args=True)\n"
        "print(c.loss_type, c.delta, c.epsilon, c.epsilon_high, c.beta, c.steps_per_generation)\n"
        "print(model.dtype, script.reward_funcs, data.datasets[0].path, data.datasets[0].data_files)\n"
        "print(c.use_bias_correction_kl, c.vllm_importance_sampling_correction, c.off_policy_mask_threshold)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-3:] == [
        "dapo 10.0 0.2 0.28 0.0 16384",
        "float32 ['accuracy_reward'] json data/DAPO-Math-17k.jsonl",
        "False False None",
    ]


def test_a_preset_brings_the_scale_and_the_trial_its_fipo_settings(export, tmp_path):
    point = PAPER | {"optimizer.learning_rate": 7e-4}
    text = export("verl", point, preset="qwen2.5_32b", embedded=True, approximate=True)
    config = verl_config(arguments(text, tmp_path)[2:], tmp_path)
    assert config.actor_rollout_ref.model.path == "Qwen/Qwen2.5-32B"
    assert config.data.max_response_length == 20480
    assert config.trainer.nnodes * config.trainer.n_gpus_per_node == 128
    assert config.actor_rollout_ref.rollout.tensor_model_parallel_size == 4
    assert config.actor_rollout_ref.actor.ulysses_sequence_parallel_size == 8
    assert config.actor_rollout_ref.actor.policy_loss.decay_rate == 32.0
    assert config.actor_rollout_ref.actor.optim.lr == 1e-6
    assert config.actor_rollout_ref.actor.fsdp_config.optimizer_offload is True  # the engine takes 80 %
    assert "only the fipo settings are the trial's" in text
    # What the study did not sweep comes with it too, and is said; what it swept is not, nor what is the same.
    taken = re.findall(r"taken along though not swept: fipo\.(\w+) = (\S+) of the trial; (\S+) is the preset's", text)
    assert taken == [("safety_threshold", "3", "10")]


@pytest.mark.parametrize(
    ("own", "taken"),
    [
        ({}, []),
        ({"fipo.gamma": 2 ** (-1 / 32)}, []),
        ({"fipo.gamma": 0.978572}, []),
        ({"fipo.half_life": 33.0}, ["half_life = 33 of the trial; 32 is the preset's"]),
        ({"fipo.gamma": 1.0}, ["half_life = null (gamma = 1) of the trial; 32 is the preset's"]),
    ],
)
def test_one_discount_by_two_names_is_no_difference_from_a_preset(own, taken, tmp_path):
    """Nor one that is given and is the default."""
    results = make_results(tmp_path, [own], embedded=True)
    spec = results.spec.model_copy(update={"space": {}})
    recipe = make_recipe(replace(results, spec=spec), results.trials[0], preset="qwen2.5_7b_math")
    found = [note.partition("not swept: fipo.")[2] for note in recipe.notes if "not swept" in note]
    assert [each for each in found if each.startswith(("half_life", "gamma"))] == taken


@pytest.mark.parametrize(
    ("template", "words"), [("boxed", "final answer in \\boxed{}."), ("answer", "a line of the form 'Answer: '")]
)
def test_the_script_says_what_stands_around_a_problem(export, template, words):
    text = export("slime", PAPER | {"data.template": template}, approximate=True)
    assert f'asks a bare problem with template {template!r}, "PROBLEM\\n\\n' in text and words in text


@pytest.mark.parametrize("target", ["verl", "yaml"])
def test_a_scale_at_which_nothing_was_tuned_is_said_in_the_file_and_at_once(tmp_path, target):
    results = make_results(tmp_path / "study", [PAPER], embedded=True)  # 900 tokens on average
    options = {"preset": "qwen2.5_32b", "approximate": True, "out": tmp_path / "out"}
    exports = prepare(results, target, **options)
    said = [line.strip() for line in summary(results, exports)]
    for line in (
        "NOT TUNED AT THIS SCALE: the fipo values were tuned on model embedded, responses of at most 64 tokens, 900.0"
        " on average: a half-life of 32 tokens is 0.036 of one.",
        "Here Qwen/Qwen2.5-32B writes up to 20,480 tokens, of which that half-life is 0.0016. Nothing says that they"
        " are the best here as well: sweep fipo.half_life and the epsilon_f bounds at this scale before a long run.",
    ):  # fmt: skip
        assert line in said
        assert line in re.sub("\n# *", " ", exports[0].text)


@pytest.mark.parametrize("target", ["verl", "yaml", "trl"])
def test_a_preset_whose_model_has_too_few_positions_says_so_in_the_file_and_at_once(tmp_path, target):
    results = make_results(tmp_path / "study", [PAPER])
    few = (
        "TOO FEW POSITIONS: config.json of Qwen/Qwen2.5-Math-7B allows 4,096, and prompt and response have up to 12,288"
    )
    for preset, told in (("qwen2.5_7b_math", True), ("qwen2.5_32b", False)):
        exports = prepare(results, target, preset=preset, approximate=True, out=tmp_path / "out")
        assert any(few in line for line in summary(results, exports)) is told
        assert (few in re.sub("\n# *", " ", exports[0].text)) is told


def test_nothing_is_said_of_scale_where_it_is_the_same_or_of_a_half_life_that_weighs_nothing(tmp_path):
    results = make_results(tmp_path / "study", [PAPER, PAPER | {"fipo.epsilon_f_high": 0.0}])
    for number in (0, 1):
        (one,) = prepare(results, "yaml", number=number, preset="qwen2.5_7b_math", out=tmp_path / "out")
        assert not any("SCALE" in line for line in one.elsewhere)
        assert ("a half-life of 32 tokens" in re.sub("\n# *", " ", one.text)) is (number == 0)
    (one,) = prepare(results, "yaml", number=1, preset="qwen2.5_32b", out=tmp_path / "out")
    assert "writes up to 20,480 tokens. Nothing says" in one.elsewhere[1] and "half_life" not in one.elsewhere[1]
    for number in (0, 1):
        (one,) = prepare(results, "report", number=number, out=tmp_path / "report.html")
        assert ("the half-life is to be found again" in one.text) is (number == 0)


@pytest.mark.parametrize(("workers", "machines"), [(1, (1, 1)), (8, (1, 8)), (12, (2, 6)), (16, (2, 8)), (9, (3, 3))])
def test_without_a_preset_the_scale_is_that_of_the_study(tmp_path, workers, machines):
    results = make_results(tmp_path / "study", [PAPER | {"rollout.vllm.tensor_parallel_size": 4}])
    resources = Resources(workers=workers, gpus_per_worker=1)
    results = replace(results, spec=results.spec.model_copy(update={"resources": resources}))
    (one,) = prepare(results, "verl", out=tmp_path / "out")
    config = verl_config(arguments(one.text, tmp_path)[2:], tmp_path)
    assert (config.trainer.nnodes, config.trainer.n_gpus_per_node) == machines
    assert config.actor_rollout_ref.rollout.tensor_model_parallel_size == 4
    assert config.actor_rollout_ref.model.path == "Qwen/Qwen2.5-Math-7B"
