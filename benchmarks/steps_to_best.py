"""How many training steps a study takes to reach the accuracy of the best full trial.

    python -m benchmarks.steps_to_best                    100 studies of each family
    python -m benchmarks.steps_to_best --studies 20 --family sweep

Measured: training steps summed over all trials, pruned and running ones included up to their last evaluation, until a
trial has completed whose true final accuracy is within `WITHIN` of the best of the first `FULL` trials of the same
study without pruning. Every contestant goes on sampling new trials until then, at most `MOST` of them; a study that
ends without is charged what it trained, and its share is shown.

Real: the bridge with Optuna's TPE and the pruners; Tune's OptunaSearch (TPE as well) and ASHAScheduler, called in the
order in which Tune's controller calls them. Simulated: trials and clock, as in `benchmarks.pruning`. In those families
the sampled values mean nothing, so that trial n is the same for everyone. In `landscape` a trial's speed and height
follow from three sampled values, and a sampler can learn.

Weak points: the truth is known to the simulator only, a user sees 32 samples of it; the curves are the paper's or
mixtures of them, of one model; evaluations cost nothing here.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.contestants import Asha, Contestant, contestant
from benchmarks.pruning import CONCURRENCY, evaluated
from benchmarks.result import Row
from benchmarks.worlds import Array, curves, paper, responses
from study.spec import Plugin

FULL, MOST = 32, 160
"""Trials of the study without pruning, and the most that any other study may sample."""
WITHIN = 0.01
"""About the sampling error of one avg@32 of 30 problems."""
FAMILIES = ("paper", "sweep", "collapse", "landscape")
SPACE: dict[str, Any] = {
    "optimizer.learning_rate": {"type": "log-uniform", "low": 1e-7, "high": 1e-5},
    "fipo.half_life": {"type": "log-uniform", "low": 2, "high": 256},
    "fipo.epsilon_f_high": {"type": "uniform", "low": 0, "high": 0.5},
}
STUDIES = 100

Trial = Callable[[int, Mapping[str, float]], tuple[Array, Array]]
"""Number and sampled values to true accuracy [evaluations] and correct responses [evaluations, problems]."""


@dataclass(frozen=True)
class Trials:
    """What the trials of one study would do."""

    trial: Trial
    pace: Array
    """[trials] hours per step."""


def trials(family: str, seed: int) -> Trials:
    """The trials of study `seed` of a family."""
    random = np.random.default_rng((FAMILIES.index(family), seed))
    pace = random.lognormal(0, 0.15, MOST)
    if family != "landscape":
        accuracy = curves(family, MOST, random)
        solved = responses(accuracy, random)
        return Trials(lambda number, params: (accuracy[number], solved[number]), pace)
    own, place = curves("paper", MOST, random), random.random(len(SPACE))

    def trial(number: int, params: Mapping[str, float]) -> tuple[Array, Array]:
        """Half the height is lost, and half the speed, at a distance of 0.5 from the best place in the unit cube."""
        far = float(np.sum((unit(params) - place) ** 2)) / 0.5**2
        good, steps = 0.5**far, np.array(paper().steps, dtype=float)
        slowed = np.interp(steps * (0.4 + 0.6 * good), steps, own[number])
        accuracy = slowed[:1] + (0.3 + 0.7 * good) * (slowed - slowed[:1])
        return accuracy, responses(accuracy[None], np.random.default_rng((seed, number)))[0]

    return Trials(trial, pace)


def unit(params: Mapping[str, float]) -> Array:
    """Sampled values on the scale of their distributions, each within 0..1."""
    found = []
    for key, each in SPACE.items():
        scale = np.log if each["type"] == "log-uniform" else float
        found.append((scale(params[key]) - scale(each["low"])) / (scale(each["high"]) - scale(each["low"])))
    return np.array(found)


FIRST = paper().steps[1]
CONTESTANTS: dict[str, Plugin | Asha] = {
    "none": Plugin(name="none"),
    "aime": Plugin(name="aime"),
    "median": Plugin(name="median"),
    "hyperband": Plugin(name="hyperband", min_resource=FIRST, max_resource=paper().steps[-1]),
    "halving": Plugin(name="successive-halving", min_resource=FIRST),
    "tune-asha": Asha(),
    "tune-asha/2": Asha(grace_period=FIRST, reduction_factor=2),
}
"""Pruners of ours and Tune's ASHA, with its own options and with milder ones."""


def studied(name: str, seed: int) -> contextlib.AbstractContextManager[Contestant]:
    """A study by one of CONTESTANTS; the one without pruning has FULL trials."""
    sampler, count = Plugin(name="tpe", seed=seed), FULL if name == "none" else MOST
    return contestant(CONTESTANTS[name], sampler=sampler, space=SPACE, trials=count, steps=paper().steps[-1])


def completions(study: Contestant, world: Trials) -> Iterator[tuple[int, float]]:
    """Each completed trial in turn: training steps so far, over all trials, and its true final accuracy."""
    steps, trained = paper().steps, 0
    clock: list[tuple[float, int, int]] = []
    running: dict[int, tuple[Array, Array]] = {}

    def start(now: float) -> None:
        if (asked := study.ask()) is not None:
            running[asked[0]] = world.trial(*asked)
            heapq.heappush(clock, (now, asked[0], 0))

    for _ in range(CONCURRENCY):
        start(0.0)
    while clock:
        now, number, index = heapq.heappop(clock)
        accuracy, solved = running[number]
        trained += steps[index] - steps[index - 1] if index else 0
        stop = study.report(number, evaluated(index, solved[index]))
        if index == len(steps) - 1:
            yield trained, float(accuracy[-1])
        elif not stop:
            heapq.heappush(clock, (now + float(world.pace[number]), number, index + 1))
            continue
        study.finish(number)
        start(now)
    yield trained, -1.0  # the end, with nothing reached


@dataclass(frozen=True)
class Reached:
    """How one study went."""

    steps: int
    """Trained until the target was reached, or in all."""
    reached: bool


def race(family: str, seed: int, names: list[str]) -> dict[str, Reached]:
    """One study by each contestant; the study without pruning sets the target."""
    world = trials(family, seed)
    with studied("none", seed) as study:
        full = list(completions(study, world))
    target = max(accuracy for _, accuracy in full) - WITHIN
    found = {"none": next(Reached(steps, True) for steps, accuracy in full if accuracy >= target)}
    for name in names:
        with studied(name, seed) as study:
            for steps, accuracy in completions(study, world):
                found[name] = Reached(steps, accuracy >= target)
                if found[name].reached:
                    break
    return found


def races(family: str, studies: int, names: list[str]) -> list[dict[str, Reached]]:
    """That many studies of a family; progress goes to standard error."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = []
    for seed in range(studies):
        found.append(race(family, seed, names))
        print(f"\r{family} {seed + 1}/{studies} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def ratio_of_means(mine: Array, theirs: Array) -> tuple[float, float, float]:
    """Ratio of the means over studies, with its bootstrap 95 % interval over pairs of studies."""
    random = np.random.default_rng(0)
    picks = random.integers(len(mine), size=(2000, len(mine)))
    low, high = np.quantile(mine[picks].mean(axis=1) / theirs[picks].mean(axis=1), [0.025, 0.975])
    return float(mine.mean() / theirs.mean()), float(low), float(high)


def row(found: list[dict[str, Reached]], claim: str, peer: str, target: str) -> Row:
    """The aime pruner against `peer`."""
    mine, theirs = (np.array([each[name].steps for each in found]) for name in ("aime", peer))
    ratio, low, high = ratio_of_means(mine, theirs)
    missed = {name: sum(not each[name].reached for each in found) for name in ("aime", peer)}
    pairs = statistics.median(mine / theirs)
    return Row(
        claim=claim,
        against=peer,
        ours=float(mine.mean()),
        peer=float(theirs.mean()),
        unit="steps",
        ratio=ratio,
        spread=(low, high),
        target=target,
        note=f"means over {len(found)} studies and the bootstrap 95 % interval of their ratio; median of the ratios of"
        f" single studies {pairs:.2f}; not reached: aime {missed['aime']}, {peer} {missed[peer]}",
    )


def rows(studies: int = 50, families: tuple[str, ...] = FAMILIES) -> list[Row]:
    """The claims of each family and of all together."""
    names = [name for name in CONTESTANTS if name.startswith(("aime", "tune"))]
    found = {family: races(family, studies, names) for family in families}
    found["all families"] = [one for each in found.values() for one in each]
    made = []
    for family, studied in found.items():
        claim = f"training steps until a study reaches its best full trial, {family}"
        made.append(row(studied, claim, "none", "<= 0.5"))
        made += [row(studied, claim, name, "<= 0.8") for name in names if name != "aime"]
    return made


def table(found: Mapping[str, list[dict[str, Reached]]], names: list[str]) -> str:
    """Per family and contestant: steps as a share of the study without pruning, and how many did not get there."""
    lines = [f"{'family':10} {'contestant':11} {'steps / without pruning':>28} {'median':>7} {'not reached':>12}"]
    for family, studied in found.items():
        plain = np.array([each["none"].steps for each in studied])
        for name in names:
            mine = np.array([each[name].steps for each in studied])
            ratio, low, high = ratio_of_means(mine, plain)
            missed = sum(not each[name].reached for each in studied) / len(studied)
            middle = statistics.median(mine / plain)
            lines.append(f"{family:10} {name:11} {ratio:12.2f} ({low:.2f} to {high:.2f}) {middle:7.2f} {missed:12.1%}")
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=STUDIES, help=f"studies of each family (default {STUDIES})")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only this one; may be repeated")
    arguments = parser.parse_args()
    names = [name for name in CONTESTANTS if name != "none"]
    found = {family: races(family, arguments.studies, names) for family in arguments.family or FAMILIES}
    found["all"] = [one for each in found.values() for one in each]
    print(table(found, names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
