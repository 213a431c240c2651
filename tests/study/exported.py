"""Study results made up in memory over real config files: what exporting reads, without a driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from study.results import StudyResults, TrialResult
from study.spec import StudySpec, set_dotted
from trainer.config import TrainerConfig
from trainer.presets import read_preset
from trainer.records import Evaluation, SetScore

SPACE = {
    "fipo.half_life": {"type": "log-uniform", "low": 4, "high": 1024},
    "fipo.epsilon_f_low": {"type": "uniform", "low": 0, "high": 1},
    "fipo.epsilon_f_high": {"type": "uniform", "low": 0, "high": 9},
}
PAPER = {"fipo.half_life": 32.0, "fipo.epsilon_f_low": 0.0, "fipo.epsilon_f_high": 0.2, "data.chat": True}
"""As the authors ran it: verl puts every prompt into the chat format."""


def score(name: str, solved: list[int], samples: int, length: float = 900.0) -> SetScore:
    """A score of these solved counts, its errors as the trainer computes them."""
    rates = np.array(solved) / samples
    return SetScore(
        name=name, samples=samples, solved=tuple(solved), accuracy=float(rates.mean()),
        sampling_error=float(np.sqrt((rates * (1 - rates) / (samples - 1)).sum()) / len(rates)),
        problem_error=float(rates.std(ddof=1) / np.sqrt(len(rates))), cons=float((rates > 0.5).mean()),
        pass_at_k=float((rates > 0).mean()), mean_length=length,
        length_quantiles=(0.5 * length, 0.8 * length, length, 1.2 * length, 2 * length), truncated=0.0,
    )  # fmt: skip


def make_results(
    directory: Path, points: list[dict[str, Any]], *, embedded: bool = False, control: str | None = None, seed: int = 0
) -> StudyResults:
    """One COMPLETE trial per point (dotted trainer keys): the paper's 7B recipe, or with `embedded` the tiny default.

    Any key may be given; the values of `SPACE` count as sampled. Accuracy rises from trial to trial.
    """
    base = {} if embedded else read_preset("qwen2.5_7b_math")
    spec = StudySpec(name="golden", trials=len(points), space=SPACE, trainer=base)
    names = [each.name for each in spec.evaluation_config().sets]
    generator = np.random.default_rng(seed)
    trials = []
    for number, point in enumerate(points):
        own = directory / "trials" / f"{number:04d}"
        own.mkdir(parents=True)
        data = read_preset("qwen2.5_7b_math") if not embedded else {}
        for key, value in point.items():
            if key == "fipo.gamma":
                data.get("fipo", {}).pop("half_life", None)
            set_dotted(data, key, value)
        config = TrainerConfig.model_validate(data)
        (own / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        (own / "metrics.jsonl").write_text(f'{{"step": {config.steps}}}\n')
        rate = min(0.3 + 0.1 * number, 0.9)
        evaluations = tuple(
            Evaluation(
                step=step, seconds=1.0, tokens=step,
                scores=tuple(
                    score(name, generator.binomial(32, rate, 30).tolist(), 32, 900.0 + 100 * number) for name in names
                ),
            )
            for step in (0, config.steps)
        )  # fmt: skip
        trials.append(
            TrialResult(
                number=number, state="COMPLETE", params={key: point[key] for key in SPACE if key in point},
                control=control, value=evaluations[-1].scores[0].accuracy, pruned_at=None, fail_reason=None,
                started=None, ended=None, directory=own, evaluations=evaluations,
            )
        )  # fmt: skip
    return StudyResults(directory=directory, spec=spec, trials=tuple(trials))


def papers(count: int) -> list[dict[str, Any]]:
    """As many configurations: the authors', and that with longer half-lives."""
    return [PAPER | {"fipo.half_life": 32.0 + number} for number in range(count)]
