"""How many training steps a study takes to reach the accuracy of the best full trial.

    python -m benchmarks.steps_to_best                    40 studies of each family
    python -m benchmarks.steps_to_best --studies 20 --family sweep --trials 96

Measured: training steps summed over all trials, pruned and running ones included up to their last evaluation, until a
trial has completed whose true final accuracy is the best of all trials of the same study without pruning, or within
0.01 of it, about the sampling error of one avg@32 of 30 problems. Every contestant goes on sampling new trials until
then, at most five times as many; a study that ends without is charged what it trained, and its share is shown.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.contestants import Asha, Contestant, contestant
from benchmarks.pruning import CONCURRENCY, evaluated
from benchmarks.result import Row
from benchmarks.worlds import Array, curves, paper, responses
from study.spec import Plugin

FULL, TIMES = 32, 5
"""Trials of the study without pruning, and how many times as many any other study may sample."""
WITHIN = (0.0, 0.01)
"""How far below the best full trial a trial may end to have reached it."""
FAMILIES = ("paper", "sweep", "collapse", "landscape")
SPACE: dict[str, Any] = {
    "optimizer.learning_rate": {"type": "log-uniform", "low": 1e-7, "high": 1e-5},
    "fipo.half_life": {"type": "log-uniform", "low": 2, "high": 256},
    "fipo.epsilon_f_high": {"type": "uniform", "low": 0, "high": 0.5},
}
STUDIES = 40

Trial = Callable[[int, Mapping[str, float]], tuple[Array, Array]]
"""Number and sampled values to true accuracy [evaluations] and correct responses [evaluations, problems]."""


@dataclass(frozen=True)
class Trials:
    """What the trials of one study would do."""

    trial: Trial
    pace: Array
    """[trials] hours per step."""


def trials(family: str, seed: int, full: int) -> Trials:
    """The trials of study `seed` of a family, which has `full` of them without pruning."""
    random, most = np.random.default_rng((FAMILIES.index(family), seed)), TIMES * full
    pace = random.lognormal(0, 0.15, most)
    if family != "landscape":
        accuracy = curves(family, most, random)
        solved = responses(accuracy, random)
        return Trials(lambda number, params: (accuracy[number], solved[number]), pace)
    own, place = curves("paper", most, random), random.random(len(SPACE))

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


def studied(name: str, seed: int, full: int) -> contextlib.AbstractContextManager[Contestant]:
    """A study by one of CONTESTANTS; the one without pruning has `full` trials."""
    sampler, count = Plugin(name="tpe", seed=seed), full if name == "none" else TIMES * full
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
    """How one study went, for each of WITHIN."""

    steps: tuple[int, ...]
    """Trained until the target was reached, or in all."""
    reached: tuple[bool, ...]


def reaching(course: Iterator[tuple[int, float]], best: float) -> Reached:
    """Follow a study's completions until the highest target is reached."""
    seen: list[tuple[int, float]] = []
    for steps, accuracy in course:
        seen.append((steps, accuracy))
        if accuracy >= best:
            break
    found = [next((steps for steps, accuracy in seen if accuracy >= best - within), None) for within in WITHIN]
    return Reached(
        tuple(seen[-1][0] if steps is None else steps for steps in found), tuple(steps is not None for steps in found)
    )


def race(family: str, seed: int, names: Sequence[str], full: int = FULL) -> dict[str, Reached]:
    """One study by each contestant; the study without pruning sets the target."""
    world = trials(family, seed, full)
    with studied("none", seed, full) as study:
        plain = list(completions(study, world))
    best = max(accuracy for _, accuracy in plain)
    found = {"none": reaching(iter(plain), best)}
    for name in names:
        with studied(name, seed, full) as study:
            found[name] = reaching(completions(study, world), best)
    return found


def races(family: str, studies: int, names: Sequence[str], full: int = FULL) -> list[dict[str, Reached]]:
    """That many studies of a family; progress goes to standard error."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = []
    for seed in range(studies):
        found.append(race(family, seed, names, full))
        print(f"\r{family} {seed + 1}/{studies} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def steps_of(found: Sequence[dict[str, Reached]], name: str, at: int) -> tuple[Array, int]:
    """Steps of a contestant in each study until the target WITHIN[at], and in how many it was not reached."""
    each = [one[name] for one in found]
    return np.array([one.steps[at] for one in each]), sum(not one.reached[at] for one in each)


def ratio_of_means(mine: Array, theirs: Array) -> tuple[float, float, float]:
    """Ratio of the means over studies, with its bootstrap 95 % interval over pairs of studies."""
    random = np.random.default_rng(0)
    picks = random.integers(len(mine), size=(2000, len(mine)))
    low, high = np.quantile(mine[picks].mean(axis=1) / theirs[picks].mean(axis=1), [0.025, 0.975])
    return float(mine.mean() / theirs.mean()), float(low), float(high)


def row(found: Sequence[dict[str, Reached]], family: str, peer: str, at: int, target: str) -> Row:
    """The aime pruner against `peer`."""
    (mine, missed), (theirs, peer_missed) = (steps_of(found, name, at) for name in ("aime", peer))
    ratio, low, high = ratio_of_means(mine, theirs)
    reach = f"within {WITHIN[at]:g} of its best full trial" if WITHIN[at] else "its best full trial"
    return Row(
        claim=f"training steps until a study reaches {reach}, {family}",
        against=peer,
        ours=float(mine.mean()),
        peer=float(theirs.mean()),
        unit="steps",
        ratio=ratio,
        spread=(low, high),
        target=target,
        note=f"means over {len(found)} studies and the bootstrap 95 % interval of their ratio; median of the ratios of"
        f" single studies {statistics.median(mine / theirs):.2f}; not reached: aime {missed}, {peer} {peer_missed}",
    )


def rows(studies: int = STUDIES) -> list[Row]:
    """The claims, over all families together."""
    names = ("aime", "tune-asha", "tune-asha/2")
    found = [one for family in FAMILIES for one in races(family, studies, names)]
    made = []
    for at in range(len(WITHIN)):
        made.append(row(found, "all families", "none", at, "<= 0.5"))
        made += [row(found, "all families", name, at, "<= 0.8") for name in names[1:]]
    return made


def table(found: Mapping[str, Sequence[dict[str, Reached]]], names: Sequence[str]) -> str:
    """Per family and contestant, for each target: steps as a share of the study without pruning, with the interval,
    and how many studies did not get there."""
    heads = [f"{f'steps to best - {within:g}' if within else 'steps to best':>26} {'missed':>6}" for within in WITHIN]
    lines = [f"{'family':10} {'contestant':11} {'studies':>7} {' '.join(heads)}"]
    for family, studies in found.items():
        for name in names:
            cells = []
            for at in range(len(WITHIN)):
                (mine, missed), (plain, _) = steps_of(studies, name, at), steps_of(studies, "none", at)
                ratio, low, high = ratio_of_means(mine, plain)
                cells.append(f"{ratio:10.2f} ({low:.2f} to {high:.2f}) {missed / len(studies):6.0%}")
            lines.append(f"{family:10} {name:11} {len(studies):7d} {' '.join(cells)}")
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=STUDIES, help=f"studies of each family (default {STUDIES})")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only this one; may be repeated")
    parser.add_argument("--trials", type=int, default=FULL, help=f"trials of a study without pruning (default {FULL})")
    arguments = parser.parse_args()
    names = [name for name in CONTESTANTS if name != "none"]
    families = arguments.family or FAMILIES
    found = {family: races(family, arguments.studies, names, arguments.trials) for family in families}
    found["all"] = [one for each in found.values() for one in each]
    print(table(found, names))
    return 0


if __name__ == "__main__":
    sys.exit(main())
