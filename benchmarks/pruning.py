"""What a pruner saves and what it costs, on families of trials built on the paper's AIME curves.

    python -m benchmarks.pruning                     50 studies of each family and pruner
    python -m benchmarks.pruning --studies 200 --pruner aime --pruner median

Real: the bridge, Optuna (in-memory storage), the pruners. Simulated: the trials and the clock. A trial is a curve of
true accuracy; evaluation at a step draws k responses to each of 30 problems. A study runs `CONCURRENCY` trials at a
time, each at its own speed. All pruners see the same trials with the same responses; with `aime-racing` an evaluation
draws 8 of them for each problem, then 16, then 32, while the decision is open. Ctrl-C prints what is done so far.

Problems follow a Rasch model: problem i is solved with probability sigmoid(theta - b_i + u_i). Difficulty b_i lies on
the quantiles of N(0, SPREAD^2), u_i, how this trial differs on this problem, is N(0, INTERACTION^2) and drifts, and
theta is set so that the mean over the 30 problems is the curve: what k responses each would show without their noise.
"""

from __future__ import annotations

import argparse
import csv
import functools
import heapq
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit, ndtri

from study.assignment import Report
from study.bridge import Bridge
from study.directory import is_enough, trial_directory
from study.spec import Plugin, StudySpec

Array = np.ndarray
DATA = Path(__file__).parent / "data" / "aime_2024_avg32.csv"
PROBLEMS, SAMPLES = 30, 32
SPREAD = 3.0
"""Logits. With it avg@32 has the step-to-step noise of the paper's curves (0.009 to 0.013), and cons@32 is about 0.56
at avg@32 0.45 and 0.70 at 0.58 (Figures 1 and 12: 0.52 to 0.56 and 0.70), if 3 of 10 responses make a majority."""
INTERACTION = 0.8
"""Logits. With it trials of equal accuracy differ problem by problem about as much as AIME 2024 minus AIME 2025 does
over the four half-lives of the paper's Table 6 (standard deviation 0.034)."""
DRIFT = 0.95
"""Correlation of u between two evaluations; an assumption."""
TRIALS, CONCURRENCY = 32, 4
RACING, FIRST_LOOK = "aime-racing", 8
FAMILIES = ("paper", "sweep", "collapse", "crossing", "flat", "uninformative")
STEP_KEY = "optimizer.learning_rate"


def pruners(horizon: int, every: int) -> dict[str, Plugin]:
    """The pruners compared. Hyperband is told the range of steps, without which its first rungs lie before the first
    evaluation; the others have their defaults."""
    return {
        "none": Plugin(name="none"),
        "median": Plugin(name="median"),
        "percentile": Plugin(name="percentile", percentile=25.0),
        "hyperband": Plugin(name="hyperband", min_resource=every, max_resource=horizon),
        "wilcoxon": Plugin(name="wilcoxon"),
        "aime": Plugin(name="aime"),
        RACING: Plugin(name="aime"),
    }


@dataclass(frozen=True)
class Paper:
    """`accuracy` [runs, evaluations] of the paper's runs at `steps`, lightly smoothed: the noise is drawn anew."""

    steps: tuple[int, ...]
    runs: tuple[str, ...]
    raw: Array
    accuracy: Array


@functools.cache
def paper() -> Paper:
    """The curves of `benchmarks/data`."""
    with DATA.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    runs = tuple(dict.fromkeys(row["run"] for row in rows))
    steps = tuple(sorted({int(row["step"]) for row in rows}))
    raw = np.array([float(row["accuracy"]) for row in rows]).reshape(len(runs), len(steps))
    # The mean of three, the ends continued by the last slope; the base model is known exactly.
    ends = np.concatenate([2 * raw[:, :1] - raw[:, 1:2], raw, 2 * raw[:, -1:] - raw[:, -2:-1]], axis=1)
    smooth = (ends[:, :-2] + ends[:, 1:-1] + ends[:, 2:]) / 3
    smooth[:, 0] = raw[:, 0]
    return Paper(steps, runs, raw, smooth)


def curves(family: str, count: int, random: np.random.Generator) -> Array:
    """True accuracy [count, evaluations] of trials of `family`.

    paper: the paper's runs, each trial one of the seven, its rise scaled by N(1, 0.05). The others are built on
    mixtures of the seven with that scale. sweep: slowed to 0.4..1 and scaled by 0.3..1.05, as poor learning rates do.
    collapse: sweep, and 3 in 10 fall back to the base model from a random step. crossing: half start at half speed and
    end up to a tenth higher. flat: one curve for all, which part in the last 3 tenths of the run. uninformative: one
    curve, and an N(0, 0.03) of its own at each evaluation, so that the past tells nothing.
    """
    data = paper()
    steps, share = np.array(data.steps, dtype=float), np.array(data.steps) / data.steps[-1]
    curve = random.dirichlet(np.full(len(data.runs), 0.5), count) @ data.accuracy
    if family == "paper":
        curve = data.accuracy[random.integers(len(data.runs), size=count)]
    scale = random.normal(1, 0.05, (count, 1))

    def slowed(speed: Array) -> Array:
        return np.stack([np.interp(steps * v, steps, row) for v, row in zip(speed, curve, strict=True)])

    if family in ("sweep", "collapse"):
        curve = slowed(random.uniform(0.4, 1, count))
        scale = random.uniform(0.3, 1.05, (count, 1))
    elif family == "crossing":
        late = slowed(np.full(count, 0.5))
        late += (1.1 * curve - late) * share**2
        curve = np.where(random.random((count, 1)) < 0.5, late, curve)
    elif family == "flat":
        curve = np.broadcast_to(data.accuracy.mean(axis=0), curve.shape)
        scale = 1 + random.normal(0, 0.06, (count, 1)) * np.clip((share - 0.7) / 0.3, 0, 1)
    elif family == "uninformative":
        curve = np.broadcast_to(data.accuracy.mean(axis=0), curve.shape) + random.normal(0, 0.03, curve.shape)
        curve[:, 0], scale = data.accuracy[0, 0], np.ones((count, 1))
    elif family != "paper":
        raise ValueError(f"unknown {family=}; known: {', '.join(FAMILIES)}")
    rise = scale * (curve - curve[:, :1])
    if family == "collapse":
        start = random.uniform(0.2, 0.9, (count, 1))
        fall = np.clip(1 - (share - start) / 0.3, 0, 1)
        rise = np.where(random.random((count, 1)) < 0.3, rise * fall, rise)
    return curve[:, :1] + rise


def responses(accuracy: Array, random: np.random.Generator, *, samples: int = SAMPLES) -> Array:
    """Correct responses [trials, evaluations, problems], each 0..samples, of trials with true `accuracy`.

    The first evaluation is the base model's, the same for all trials: seeds leave the trial out.
    """
    difficulty = SPREAD * ndtri((np.arange(PROBLEMS) + 0.5) / PROBLEMS)
    noise = random.normal(0, INTERACTION, (*accuracy.shape, PROBLEMS))
    for step in range(1, accuracy.shape[1]):
        noise[:, step] = DRIFT * noise[:, step - 1] + np.sqrt(1 - DRIFT**2) * noise[:, step]
    solved = random.binomial(samples, solve_rates(accuracy, noise - difficulty))
    solved[:, 0] = solved[0, 0]
    return solved


def solve_rates(accuracy: Array, ease: Array) -> Array:
    """sigmoid(theta + `ease`) [..., problems], theta by bisection so that its mean over problems is `accuracy`."""
    low, high = np.full(accuracy.shape, -30.0), np.full(accuracy.shape, 30.0)
    for _ in range(50):
        theta = (low + high) / 2
        too_low = expit(theta[..., None] + ease).mean(axis=-1) < accuracy
        low, high = np.where(too_low, theta, low), np.where(too_low, high, theta)
    return expit(((low + high) / 2)[..., None] + ease)


@dataclass(frozen=True)
class World:
    """The trials of one study: true accuracy [trials, evaluations], correct responses after 1 to `SAMPLES` draws
    [trials, evaluations, problems, SAMPLES], hours per step of each trial."""

    accuracy: Array
    solved: Array
    pace: Array


def world(family: str, seed: int) -> World:
    """The trials of study `seed` of a family, in the order in which they are asked for."""
    random = np.random.default_rng((FAMILIES.index(family), seed))
    accuracy = curves(family, TRIALS, random)
    solved, pace = responses(accuracy, random), random.lognormal(0, 0.15, TRIALS)
    drawn = random.permuted(np.arange(SAMPLES) < solved[..., None], axis=-1)
    drawn[:, 0] = drawn[0, 0]
    return World(accuracy, drawn.cumsum(axis=-1, dtype=np.int8), pace)


@dataclass(frozen=True)
class Outcome:
    """What a pruner did in one study."""

    saved: float
    """Share of the trial-steps that were not trained."""
    undrawn: float
    """Share of the responses of all evaluations that were not drawn."""
    best_pruned: bool
    """The trial with the highest true final accuracy was pruned."""
    regret: float
    """True final accuracy of that trial, less that of the trial with the highest reported final accuracy."""


def simulate(pruner: Plugin, trials: World, *, races: bool = False) -> Outcome:
    """Run one study through the bridge, on a clock that jumps from evaluation to evaluation.

    When it races, evaluations after the base model and before the last step begin with `FIRST_LOOK` responses.
    """
    import optuna

    from study.pruners import complete, make_pruner

    steps = paper().steps
    options = complete(pruner.name, pruner.options)
    count, last = len(trials.pace), len(steps) - 1
    spec = StudySpec(
        name="simulated",
        trials=count,
        sampler=Plugin(name="random", seed=0),
        pruner=Plugin(name=pruner.name, **options),
        space={STEP_KEY: {"type": "log-uniform", "low": 1e-7, "high": 1e-5}},
        trainer={"steps": steps[-1]},
    )
    study = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(),
        direction="maximize",
        study_name="simulated",
        pruner=make_pruner(pruner.name, options),
    )
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "trials").mkdir()
        bridge = Bridge(study, spec, Path(directory))
        trained, drawn, clock = 0, 0, []

        def start(now: float) -> None:
            assignment = bridge.ask()
            if assignment is not None:
                heapq.heappush(clock, (now, assignment.number, 0))

        def raced(number: int, index: int) -> int:
            """Responses per problem until the bridge says that they are enough."""
            samples = FIRST_LOOK if races and 0 < index < last else SAMPLES
            while samples < SAMPLES:
                solved = trials.solved[number, index, :, samples - 1].tolist()
                bridge.look(number, step=steps[index], samples=samples, solved=solved)
                if is_enough(Path(directory) / trial_directory(number), steps[index], samples):
                    break
                samples *= 2
            return samples

        for _ in range(min(CONCURRENCY, count)):
            start(0.0)
        while clock:
            now, number, index = heapq.heappop(clock)
            samples = raced(number, index)
            drawn += samples
            solved = trials.solved[number, index, :, samples - 1].tolist()
            value = sum(solved) / samples / PROBLEMS
            stop = bridge.report(number, Report(steps[index], value, samples=samples, solved=solved))
            if stop or index == last:
                trained += steps[index]
                bridge.finish(number)
                start(now)
            else:
                heapq.heappush(clock, (now + float(trials.pace[number]), number, index + 1))
    truth, best = trials.accuracy[:, -1], int(trials.accuracy[:, -1].argmax())
    states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
    return Outcome(
        saved=1 - trained / (count * steps[-1]),
        undrawn=1 - drawn / (count * len(steps) * SAMPLES),
        best_pruned=states[best] == "PRUNED",
        regret=float(truth[best] - truth[study.best_trial.number]),
    )


def table(outcomes: Mapping[tuple[str, str], Sequence[Outcome]]) -> str:
    """One line per family and pruner, and one per pruner over all families; ± is 1.96 standard errors over studies.

    Steps and responses are the shares of both that were saved.
    """
    head = f"{'family':10} {'pruner':11} {'studies':>7} {'steps saved':>12} {'responses':>9}"
    lines = [f"{head} {'best pruned':>20} {'regret':>16}"]
    names = dict.fromkeys(pruner for _, pruner in outcomes)
    groups = [(key, found) for key, found in outcomes.items()]
    groups += [
        (("all", name), [one for (_, each), f in outcomes.items() if each == name for one in f]) for name in names
    ]
    for (family, pruner), found in groups:
        saved, undrawn, regret = (
            np.array([getattr(one, name) for one in found]) for name in ("saved", "undrawn", "regret")
        )
        wrong, count = sum(one.best_pruned for one in found), len(found)
        low, high = wilson(wrong, count)
        lines.append(
            f"{family:10} {pruner:11} {count:7d} {saved.mean():6.1%} ±{_error(saved):5.1%} {undrawn.mean():9.1%}"
            f" {wrong / count:6.1%} ({low:5.1%}..{high:5.1%}) {100 * regret.mean():7.2f} ±{100 * _error(regret):.2f} pt"
        )
    return "\n".join(lines)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    from scipy.stats import binomtest

    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _error(values: Array) -> float:
    return float(1.96 * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def main() -> int:
    """Print the table; progress goes to standard error."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = pruners(paper().steps[-1], paper().steps[1])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=50, help="studies of each family and pruner (default 50)")
    parser.add_argument("--pruner", action="append", choices=list(known), help="only this one; may be repeated")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="number of the first study (default 0)")
    arguments = parser.parse_args()
    if arguments.studies < 1:
        parser.error(f"--studies {arguments.studies}: give 1 or more")
    families, names = arguments.family or FAMILIES, arguments.pruner or known
    outcomes: dict[tuple[str, str], list[Outcome]] = {(family, name): [] for family in families for name in names}
    began = time.monotonic()
    try:
        # Studies outside, families inside: an interrupted table is balanced.
        for done in range(arguments.studies):
            for family in families:
                trials = world(family, arguments.seed + done)
                found = [simulate(known[name], trials, races=name == RACING) for name in names]
                for name, outcome in zip(names, found, strict=True):
                    outcomes[family, name].append(outcome)
            left = (time.monotonic() - began) / (done + 1) * (arguments.studies - done - 1) / 60
            print(f"\r{done + 1}/{arguments.studies}, about {left:.0f} min left ", end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        outcomes = {key: found for key, found in outcomes.items() if found}
    print(file=sys.stderr)
    print(table(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
