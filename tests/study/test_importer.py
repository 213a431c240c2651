"""A verl launch script becomes a config of this trainer; what has no counterpart is listed."""

from __future__ import annotations

import pytest

from study.export import prepare
from study.importer import import_script, import_verl_script
from tests.study.exported import PAPER, make_results
from trainer.config import TrainerConfig
from trainer.errors import UserError, read_yaml, validate

SCRIPT = """#!/usr/bin/env bash
set -euo pipefail
max_prompt_length=$((1024 * 2))
max_response_length=$((1024 * 20))
mini=64
TRAIN_FILE=${TRAIN_FILE:-"${HOME}/data/dapo.parquet"}
high_only=True  # a comment
python3 -m recipe.dapo.main_dapo \\
    data.train_files="${TRAIN_FILE}" \\
    data.max_prompt_length=${max_prompt_length} \\
    data.max_response_length=${max_response_length} \\
    data.train_batch_size=512 \\
    actor_rollout_ref.actor.ppo_mini_batch_size=${mini} \\
    actor_rollout_ref.actor.policy_loss.loss_mode=future_kl \\
    +actor_rollout_ref.actor.policy_loss.decay_rate=16.0 \\
    +actor_rollout_ref.actor.policy_loss.future_kl_clip_ratio=0.3 \\
    +actor_rollout_ref.actor.policy_loss.future_kl_clip_high_only=${high_only} \\
    actor_rollout_ref.actor.optim.lr=1e-6 \\
    reward_model.overlong_buffer.enable=True \\
    reward_model.overlong_buffer.len=$((1024 * 4 + 96)) \\
    trainer.logger='["console"]' \\
    trainer.nnodes="${NNODES:-16}"
"""


def test_variables_arithmetic_and_fipo_settings_are_read(tmp_path):
    (tmp_path / "run.sh").write_text(SCRIPT)
    imported = import_verl_script(tmp_path / "run.sh")
    config = imported.config
    assert (config.data.train, config.data.max_prompt_length) == ("~/data/dapo.parquet", 2048)
    assert (config.rollout.max_response_length, config.reward.overlong_buffer) == (20480, 4192)
    assert (config.rollout.prompts_per_step, config.optimizer.prompts_per_minibatch) == (512, 64)
    assert (config.fipo.half_life, config.fipo.epsilon_f_low, config.fipo.epsilon_f_high) == (16.0, 0.0, 0.3)
    assert config.optimizer.learning_rate == 1e-6
    assert imported.unread == ('trainer.logger=["console"]', "trainer.nnodes=16")


def test_what_was_not_read_stands_at_the_top_of_a_valid_config(tmp_path):
    (tmp_path / "run.sh").write_text(SCRIPT)
    imported = import_script(tmp_path / "run.sh", source="verl-script", out=tmp_path / "base.yaml")
    text = (tmp_path / "base.yaml").read_text()
    assert "#   trainer.nnodes=16\n" in text or "# trainer.nnodes=16\n" in text
    assert validate(TrainerConfig, read_yaml(tmp_path / "base.yaml"), source="base.yaml") == imported.config


@pytest.mark.parametrize("low", [0.0, 0.2])
def test_an_exported_verl_script_comes_back_the_same(tmp_path, low):
    results = make_results(tmp_path / "study", [PAPER | {"fipo.epsilon_f_low": low}])
    (one,) = prepare(results, "verl", out=tmp_path / "out.sh")
    (tmp_path / "out.sh").write_text(one.text)
    back = import_verl_script(tmp_path / "out.sh").config
    own = validate(TrainerConfig, read_yaml(results.trials[0].directory / "config.yaml"), source="config.yaml")
    assert back.fipo == own.fipo
    assert back.optimizer == own.optimizer
    assert back.reward == own.reward
    assert back.rollout == own.rollout
    assert back.steps == own.steps


def test_a_script_is_never_run(tmp_path):
    (tmp_path / "run.sh").write_text(SCRIPT + f"touch {tmp_path}/owned\nx=$(touch {tmp_path}/owned)\n")
    import_verl_script(tmp_path / "run.sh")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo hello\n", "holds no Hydra overrides"),
        ("a='unclosed\n", "is not a shell script"),
        ("python -m x data.train_batch_size=${BATCH}\n", r"rollout\.prompts_per_step = '\$\{BATCH\}'"),
        ("python -m x data.train_batch_size=64 actor_rollout_ref.actor.ppo_mini_batch_size=64\n", "one minibatch"),
    ],
)
def test_an_unusable_script_is_one_line(tmp_path, text, message):
    (tmp_path / "run.sh").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        import_script(tmp_path / "run.sh", source="verl-script", out=tmp_path / "base.yaml")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "base.yaml").exists()
