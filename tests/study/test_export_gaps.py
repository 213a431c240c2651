"""What a target cannot say is refused with the nearest choice, and approximated only on request, said at the top."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.export import TRAINERS, prepare
from study.export.gaps import half_life, one_ratio
from tests.study.exported import PAPER, make_results
from trainer.config import FipoConfig, TrainerConfig
from trainer.errors import UserError


def refusal(tmp_path, target, point, **options):
    results = make_results(tmp_path / "study", [point], embedded=options.pop("embedded", False))
    with pytest.raises(UserError) as error:
        prepare(results, target, out=tmp_path / "out", **options)
    assert "\n" not in str(error.value)
    (one,) = prepare(results, target, out=tmp_path / "out", approximate=True, **options)
    return str(error.value), one.text


def test_verl_says_the_papers_own_settings_without_approximating(tmp_path):
    for low in (0.0, 0.2):
        results = make_results(tmp_path / str(low), [PAPER | {"fipo.epsilon_f_low": low}])
        (one,) = prepare(results, "verl", out=tmp_path / "out")
        assert one.gaps == ()
        assert f"future_kl_clip_high_only={low == 0.0}" in one.text


def test_asymmetric_bounds_are_refused_by_verl_and_ms_swift_and_said_by_slime(tmp_path):
    point = PAPER | {"fipo.epsilon_f_low": 0.15, "fipo.epsilon_f_high": 0.2}
    for target, clip in (("verl", "future_kl_clip_ratio=0.175"), ("ms-swift", "--fipo_clip_range=0.175")):
        line, text = refusal(tmp_path / target, target, point)
        assert "fipo.epsilon_f_low = 0.15, fipo.epsilon_f_high = 0.2" in line
        assert "epsilon_f_low = 0.15, fipo.epsilon_f_high = 0.2, so that weights lie in [0.85, 1.2]" in line
        assert "nearest: epsilon_f_low = 0.175, epsilon_f_high = 0.175, weights in [0.825, 1.175], or " in line
        assert "--approximate" in line
        assert clip in text
        assert "APPROXIMATED" in text.split("set -euo")[0]
    _, text = refusal(tmp_path / "slime", "slime", point)
    assert "--fipo-clip-ratio-low=0.15\n    --fipo-clip-ratio-high=0.2" in text
    assert "epsilon_f" not in text.split("APPROXIMATED")[1].split("set -euo")[0]


@pytest.mark.parametrize(("target", "written"), [("verl", "loss_mode=vanilla"), ("ms-swift", "--loss_type=dapo")])
def test_weights_of_one_are_not_written_as_a_ratio_of_zero(tmp_path, target, written):
    line, text = refusal(tmp_path, target, PAPER | {"fipo.epsilon_f_high": 0.0})
    assert "fipo.epsilon_f_low = 0, fipo.epsilon_f_high = 0" in line
    assert "a sequence with more than one token beyond it is left out of the loss here, but stays in" in line
    assert written in text
    assert not re.search("decay.rate", text.split("arguments=(")[1])


@pytest.mark.parametrize("more", [{}, {"fipo.filtering": False}])
def test_slime_says_weights_of_one_with_its_own_bounds(tmp_path, more):
    line, text = refusal(tmp_path, "slime", PAPER | {"fipo.epsilon_f_high": 0.0} | more)
    assert "epsilon_f" not in line
    assert "filtering" not in line  # without weights there is nothing to filter
    assert "--fipo-clip-ratio-low=0\n    --fipo-clip-ratio-high=0\n" in text


def test_the_refusal_names_every_choice_and_the_target_that_says_it_all(tmp_path):
    line, _ = refusal(tmp_path, "verl", PAPER | {"fipo.epsilon_f_low": 0.15})
    near = [line.index(f"epsilon_f_low = {low:g}, epsilon_f_high = {high:g}") for low, high in
            ((0.175, 0.175), (0.2, 0.2), (0.15, 0.15), (0, 0.2))]  # fmt: skip
    assert near == sorted(near)
    assert "--to slime, which has both bounds" in line


@pytest.mark.parametrize("target", ["verl", "ms-swift", "slime"])
@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_gamma_0_and_1_have_no_half_life(tmp_path, target, gamma):
    point = {key: value for key, value in PAPER.items() if key != "fipo.half_life"} | {"fipo.gamma": gamma}
    line, text = refusal(tmp_path, target, point)
    assert f"fipo.gamma = {gamma:g}" in line
    tau = float(re.search(r"decay.rate=(\S+)", text)[1])
    assert 2 ** (-1 / tau) == pytest.approx(gamma, abs=1e-5)


def test_sets_of_different_k_get_the_largest_where_one_number_serves_all(tmp_path):
    sets = [{"name": f"aime_{year}", "path": f"{year}.jsonl", "samples": k} for year, k in ((2024, 64), (2025, 16))]
    for target, written in (("verl", "val_kwargs.n=64"), ("slime", "--n-samples-per-eval-prompt=64")):
        for number, order in enumerate((sets, sets[::-1])):
            line, text = refusal(tmp_path / f"{target}{number}", target, PAPER | {"evaluation.sets": order})
            assert "evaluation.sets with samples 16, 64: one number serves all sets; nearest: 64;" in line
            assert written in text


@pytest.mark.parametrize(("prompt", "tokens"), [(2048, 24576), (20480, 30720)])
def test_a_sequence_of_full_length_fits_into_a_micro_batch(tmp_path, prompt, tokens):
    """Beside responses of up to 10,240 tokens; this trainer takes one that is longer alone."""
    results = make_results(tmp_path / "study", [PAPER | {"data.max_prompt_length": prompt}])
    for target, written in (("verl", "ppo_max_token_len_per_gpu"), ("slime", "--max-tokens-per-gpu")):
        (one,) = prepare(results, target, out=tmp_path / "out", approximate=True)
        assert f"{written}={tokens}\n" in one.text.replace(" \\\n", "\n")


def test_trl_samples_for_all_minibatches_at_once_and_rounds_up_what_its_gpus_cannot_divide(tmp_path):
    # 18 prompts in 3 minibatches on 8 GPUs: 6 times 32 responses are 24 for each, 6 times 5 are 4 after rounding up.
    scale = {"rollout.prompts_per_step": 18, "optimizer.prompts_per_minibatch": 6}
    for number, (size, batch) in enumerate([(32, 18 * 32), (5, 3 * 8 * 4)]):
        results = make_results(tmp_path / f"{number}", [PAPER | scale | {"rollout.group_size": size}])
        (one,) = prepare(results, "trl", out=tmp_path / "out", approximate=True)
        assert f"generation_batch_size: {batch}\n" in one.text


@pytest.mark.parametrize("target", ["verl", "ms-swift", "slime"])
def test_no_filtering_is_refused(tmp_path, target):
    line, _ = refusal(tmp_path, target, PAPER | {"fipo.filtering": False})
    assert "fipo.filtering = False" in line


def test_what_ms_swift_and_slime_always_do_otherwise_is_refused(tmp_path):
    line, _ = refusal(tmp_path / "m", "ms-swift", PAPER)
    assert "a sequence with more than one token beyond it is left out of the loss here, but stays in there" in line
    assert "data.template = answer: its accuracy reward reads answers in LaTeX only" in line
    line, text = refusal(tmp_path / "s", "slime", PAPER)
    assert "its tokens stay in the count that divides the loss there" in line
    assert "old log-probabilities of the trainer" in line
    assert "--use-rollout-logprobs" in text


def test_trl_loses_fipo_and_says_so(tmp_path):
    line, text = refusal(tmp_path, "trl", PAPER | {"rollout.max_sampled_batches": 2})
    assert "rollout.max_sampled_batches = 2: TRL has no dynamic sampling" in line
    assert "TRL has no FIPO loss" in line
    assert "the influence weights that this study is about are lost" in text


def test_the_embedded_model_is_refused_even_with_approximate(tmp_path):
    results = make_results(tmp_path, [PAPER], embedded=True)
    for target in TRAINERS:
        with pytest.raises(UserError, match=r"model\.path = embedded exists in this trainer only; .*--preset qwen2"):
            prepare(results, target, out=tmp_path / "out", approximate=True)


@given(low=st.floats(0, 1), high=st.floats(0, 9))
def test_one_ratio_is_exact_or_a_gap(low, high):
    """What verl makes of the ratio (its code, as recorded in the design) is our bounds, or a gap says otherwise."""
    gaps = []
    said = one_ratio(FipoConfig(epsilon_f_low=low, epsilon_f_high=high), gaps, unclipped=True)
    if said is None:
        assert low == high == 0
        assert gaps
        return
    ratio, high_only = said
    bounds = (1.0, 9.0) if ratio == 0 else (0.0 if high_only else ratio, ratio)
    assert (bounds == (low, high)) == (not gaps)
    assert bounds[0] <= 1


@given(gamma=st.floats(1e-6, 1 - 1e-9))
def test_a_half_life_gives_gamma_back(gamma):
    gaps = []
    config = TrainerConfig.model_validate({"fipo": {"gamma": gamma}})
    assert math.isclose(2.0 ** (-1.0 / half_life(config, gaps)), gamma, rel_tol=1e-9)
    assert not gaps


def test_the_default_half_life_is_written_as_the_number_it_is():
    assert half_life(TrainerConfig(), []) == 32.0


def test_the_half_life_of_gamma_1_discounts_the_longest_response_by_less_than_a_thousandth():
    config = TrainerConfig.model_validate({"fipo": {"gamma": 1.0}, "rollout": {"max_response_length": 200}})
    assert 0.999 < 2.0 ** (-200 / half_life(config, [])) < 0.9995
