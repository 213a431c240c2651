"""A verl launch script becomes a config of this trainer; what has no counterpart is listed, what differs is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from study.export import prepare, verl
from study.export.recipe import Machines, Recipe
from study.importer import FIXED, READ, import_script, import_verl_script
from study.spec import get_dotted, set_dotted
from tests.study.exported import PAPER, make_results
from tests.study.test_export_fields import CHANGED, changed, said
from trainer.config import TrainerConfig
from trainer.config_file import read_config
from trainer.errors import UserError
from trainer.presets import read_preset

# The keys of the authors' own script, in a script of our own making.
SCRIPT = """#!/usr/bin/env bash
set -xeuo pipefail
# it's the 32B recipe
max_prompt_length=$((1024 * 2))
max_response_length=$((1024 * 20))
prompts=512 mini=64
TRAIN_FILE=${TRAIN_FILE:-"${HOME}/data/dapo.parquet"}
: "${TEST_FILE:=$HOME/data/aime-2024.parquet}"
high_only=True  # a comment
cat > note.txt <<NOTE
it's data.train_batch_size=1
NOTE
ray job submit --working-dir "${PWD}" -- python3 -m recipe.dapo.main_dapo \\
    data.train_files="['${TRAIN_FILE}']" \\
    data.val_files="${TEST_FILE}" \\
    data.max_prompt_length=${max_prompt_length} \\
    data.max_response_length="${max_response_length}" \\
    data.gen_batch_size=$((prompts * 4)) \\
    data.train_batch_size=$prompts \\
    algorithm.adv_estimator=grpo algorithm.filter_groups.enable=True \\
    algorithm.filter_groups.metric=acc algorithm.filter_groups.max_num_gen_batches=10 \\
    actor_rollout_ref.model.path=${MODEL:-Qwen/Qwen2.5-32B} \\
    actor_rollout_ref.rollout.n=16 \\
    actor_rollout_ref.actor.ppo_mini_batch_size=${mini} \\
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=$(((max_prompt_length + max_response_length) * 2)) \\
    actor_rollout_ref.actor.clip_ratio_high=0.28 actor_rollout_ref.actor.clip_ratio_c=10.0 \\
    actor_rollout_ref.actor.policy_loss.loss_mode=future_kl \\
    +actor_rollout_ref.actor.policy_loss.decay_rate=16.0 \\
    +actor_rollout_ref.actor.policy_loss.future_kl_clip_ratio=0.3 \\
    +actor_rollout_ref.actor.policy_loss.future_kl_clip_high_only=${high_only} \\
    actor_rollout_ref.actor.optim.lr=1e-6 actor_rollout_ref.actor.optim.lr_warmup_steps=10 \\
    actor_rollout_ref.rollout.val_kwargs.n=32 actor_rollout_ref.rollout.val_kwargs.do_sample=True \\
    actor_rollout_ref.rollout.val_kwargs.temperature=1.0 actor_rollout_ref.rollout.val_kwargs.top_p=0.7 \\
    reward_model.overlong_buffer.enable=True \\
    reward_model.overlong_buffer.len=$((1024 * 4 + 96)) \\
    reward_model.overlong_buffer.penalty_factor=1.0 \\
    trainer.total_training_steps=600 trainer.test_freq=5 trainer.save_freq=-1 \\
    trainer.experiment_name=run#1 \\
    trainer.logger='["console"]' \\
    trainer.nnodes="${NNODES:-16}" 2>&1 | tee run.log
"""
LOSS = "actor_rollout_ref.actor.policy_loss"
MINIMAL = (
    "python -m recipe.dapo.main_dapo data.train_batch_size=8 actor_rollout_ref.actor.ppo_mini_batch_size=4"
    " actor_rollout_ref.rollout.n=4"
)


def read(tmp_path: Path, text: str):
    (tmp_path / "run.sh").write_text(text)
    return import_verl_script(tmp_path / "run.sh")


def test_variables_arithmetic_and_settings_are_read(tmp_path):
    imported = read(tmp_path, SCRIPT)
    config = imported.config
    assert (config.data.train, config.data.max_prompt_length, config.data.chat) == ("~/data/dapo.parquet", 2048, True)
    assert (config.model.path, config.model.dtype) == ("Qwen/Qwen2.5-32B", "bfloat16")
    assert (config.rollout.max_response_length, config.reward.overlong_buffer) == (20480, 4192)
    assert (config.rollout.prompts_per_step, config.optimizer.prompts_per_minibatch) == (512, 64)
    assert config.rollout.max_sampled_batches == 40  # ten of four times the prompts
    assert config.optimizer.micro_batch_tokens == 45056
    assert (config.fipo.half_life, config.fipo.epsilon_f_low, config.fipo.epsilon_f_high) == (16.0, 0.0, 0.3)
    assert (config.steps, config.checkpoint.every, config.optimizer.learning_rate) == (600, None, 1e-6)
    (aime,) = config.evaluation.sets
    assert (aime.name, aime.path, aime.samples, aime.every) == ("aime_2024", "~/data/aime-2024.parquet", 32, 5)
    assert imported.different == ()
    assert imported.unread == ("trainer.experiment_name=run#1", 'trainer.logger=["console"]', "trainer.nnodes=16")


def test_what_the_script_does_not_say_is_as_in_the_authors_fork(tmp_path):
    recorded = json.loads((Path(__file__).parent / "export_golden/verl.schema.json").read_text())["defaults"]
    ours = {key: default for key, (_, default) in READ.items()} | {key: default for key, (default, _) in FIXED.items()}
    del ours["data.seed"]  # which its code knows, and its config does not
    high, ratio = recorded.pop(f"{LOSS}.future_kl_clip_high_only"), recorded.pop(f"{LOSS}.future_kl_clip_ratio")
    assert ours == recorded
    fipo = read(tmp_path, f"{MINIMAL} {LOSS}.loss_mode=future_kl").config.fipo
    assert (ratio, high) == (0.0, False)  # no clipping but at 10
    assert (fipo.half_life, fipo.dual_clip, fipo.epsilon_f_low, fipo.epsilon_f_high) == (128.0, 3.0, 1.0, 9.0)


def test_what_the_run_does_otherwise_is_told(tmp_path):
    told = "\n".join(read(tmp_path, f"if true; then\n{MINIMAL} {LOSS}.loss_mode=vanilla\nfi\n").different)
    for words in (
        "algorithm.adv_estimator is gae there, as the script does not say it, always grpo here",
        "stays in verl's DAPO loss", "groups that are all right or all wrong stay in verl's batch", "steps is this",
        "data.train is this", "model.path is this", "evaluation.sets is this", "evaluation is greedy there",
        "conditions or loops",
    ):  # fmt: skip
        assert words in told


def test_what_was_not_read_stands_at_the_top_of_a_valid_config(tmp_path):
    (tmp_path / "run.sh").write_text(SCRIPT + "\nx=(actor_rollout_ref.actor.entropy_coeff=0.1)\n")
    imported = import_script(tmp_path / "run.sh", source="verl-script", out=tmp_path / "base.yaml")
    text = (tmp_path / "base.yaml").read_text()
    assert "# - trainer.nnodes=16\n" in text
    assert "# - actor_rollout_ref.actor.entropy_coeff is 0.1 there, always 0 here\n" in text
    assert read_config(TrainerConfig, tmp_path / "base.yaml") == imported.config


@pytest.mark.parametrize("low", [0.0, 0.2])
def test_an_exported_verl_script_comes_back_the_same(tmp_path, low):
    results = make_results(tmp_path / "study", [PAPER | {"fipo.epsilon_f_low": low, "seed": 3}])
    (one,) = prepare(results, "verl", out=tmp_path / "out.sh")
    back = read(tmp_path, one.text)
    own = read_config(TrainerConfig, results.trials[0].directory / "config.yaml")
    for part in ("steps", "seed", "model", "rollout", "reward", "fipo", "optimizer", "checkpoint"):
        assert getattr(back.config, part) == getattr(own, part), part
    assert [each.samples for each in back.config.evaluation.sets] == [32, 32]
    assert back.different == ()


ANEW = {
    "data.train": "a file made of the hub data set", "evaluation.sets": "likewise, and named after its files",
    "data.template": "it stands in the problems of that file", "fipo.gamma": "comes back as fipo.half_life",
}  # fmt: skip
"""Fields that an exported script says in another way than the importer does."""


@pytest.mark.parametrize("key", sorted(set(CHANGED) - set(ANEW)))
def test_a_field_that_the_export_says_is_read_back(tmp_path, key):
    text, refused = said("verl", key)
    if not refused:
        assert get_dotted(read(tmp_path, text).config, key) == get_dotted(changed(key), key)


@settings(max_examples=60, deadline=None)
@given(name=st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs", "Co"]), min_size=1, max_size=25))
@example(name="it's $HOME/`id`/$(id)")
@example(name='a "b" \\\'c\\')
@example(name="[x,y]")
@example(name="# no comment")
def test_a_path_comes_back_whatever_is_in_it(tmp_path_factory, name):
    if "${" in name or name.startswith("embedded:"):
        return  # which Hydra itself would replace, or exists in this trainer only; export refuses both
    data = read_preset("qwen2.5_7b_math")
    for key, value in (("model.path", f"x{name}"), ("data.train", f"{name}.parquet"), ("data.chat", True)):
        set_dotted(data, key, value)
    text, _ = verl.render(Recipe(TrainerConfig.model_validate(data), "name", Machines()), ())
    back = read(tmp_path_factory.mktemp("path"), text).config
    assert (back.model.path, back.data.train) == (f"x{name}", f"{name}.parquet")


def test_a_script_is_never_run(tmp_path):
    owned = f"$(touch {tmp_path}/owned)"
    read(tmp_path, SCRIPT + f"touch {tmp_path}/owned\nx={owned}\ntrainer.default_local_dir={owned} `touch {owned}`\n")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo hello\n", "is no launch script of verl, it holds no overrides"),
        ("fipo train --set fipo.half_life=32\n", "is no launch script of verl, it holds no overrides"),
        ("a='unclosed\n", "is no launch script of verl .No closing quotation"),
        ("python -m x data.train_batch_size=${BATCH}\n", r"train_batch_size = '\$\{BATCH\}' is not known without"),
        ("python -m x actor_rollout_ref.model.path=$(pwd)/m\n", r"model\.path = '\$\(pwd\)/m' is not known without"),
        (f"{MINIMAL} data.seed=$((2 ** 9))\n", r"data\.seed = '\$\(\(2 \*\* 9\)\)' is not known"),
        (f"{MINIMAL} actor_rollout_ref.rollout.n='${{data.n}}'\n", r"rollout\.n = '\$\{data\.n\}' is not known"),
        (f"{MINIMAL} actor_rollout_ref.rollout.n=many\n", r"rollout\.group_size = 'many'"),
        (f"{MINIMAL} {LOSS}.loss_mode=gspo\n", r"loss_mode = gspo: not known here; allowed: future_kl"),
        (f"{MINIMAL} data.train_files='[a.parquet,b.parquet]'\n", r"data\.train_files holds 2 files"),
        (f"{MINIMAL} algorithm.filter_groups.enable=True\n", r"max_num_gen_batches = 0 draws without end"),
        (f"{MINIMAL} actor_rollout_ref.actor.optim.lr_warmup_steps=soon\n", r"optimizer\.warmup_steps = 'soon'"),
        ("a=xxxxxxxxxx\n" + "a=$a$a\n" * 40 + MINIMAL, "a value has more than 10000 characters"),
        (f"{MINIMAL} data.seed=$(({'(' * 5000}1{')' * 5000}))\n", r"not known without running"),
        ("python -m x data.train_batch_size=64 actor_rollout_ref.actor.ppo_mini_batch_size=64"
         " actor_rollout_ref.rollout.n=4\n", "one minibatch"),
    ],
)  # fmt: skip
def test_an_unusable_script_is_one_line(tmp_path, text, message):
    (tmp_path / "run.sh").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        import_script(tmp_path / "run.sh", source="verl-script", out=tmp_path / "base.yaml")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "base.yaml").exists()


def test_what_is_no_script_is_one_line(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path, message in (
        (tmp_path, "is not a file"),
        (tmp_path / "none", "no such file"),
        (tmp_path / "binary", "not text"),
    ):
        with pytest.raises(UserError, match=message):
            import_verl_script(path)


@pytest.mark.parametrize(
    ("said", "key", "value"),
    [
        ("trainer.total_training_steps=600 actor_rollout_ref.actor.optim.lr_warmup_steps_ratio=0.05",
         "optimizer.warmup_steps", 30),
        ("trainer.total_training_steps=9 actor_rollout_ref.actor.optim.lr_warmup_steps_ratio=0.5",
         "optimizer.warmup_steps", 4),
        ("data.gen_batch_size=12 algorithm.filter_groups.enable=True algorithm.filter_groups.max_num_gen_batches=3",
         "rollout.max_sampled_batches", 5),  # 36 prompts by eights
        ("actor_rollout_ref.actor.use_kl_loss=True", "fipo.kl_coef", 0.001),
        ("actor_rollout_ref.actor.use_kl_loss=True actor_rollout_ref.actor.kl_loss_coef=0.02", "fipo.kl_coef", 0.02),
        ("actor_rollout_ref.actor.kl_loss_coef=0.02", "fipo.kl_coef", 0.0),
    ],
)  # fmt: skip
def test_what_verl_reckons_from_other_numbers_is_reckoned_as_there(tmp_path, said, key, value):
    assert get_dotted(read(tmp_path, f"{MINIMAL} {said}\n").config, key) == value
