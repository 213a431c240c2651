"""What a pruner saves and what it costs, on families of trials built on the paper's AIME curves.

    python -m benchmarks.pruning                     50 studies of each family and pruner
    python -m benchmarks.pruning --studies 200 --pruner aime --pruner median

Real: the bridge, Optuna (in-memory storage), the pruners, Tune's ASHA. Simulated: the trials (`benchmarks.worlds`) and
the clock. A study runs `CONCURRENCY` trials at a time, each at its own speed. All pruners see the same trials with the
same responses; with `aime-racing` an evaluation draws 8 of them for each problem, then 16, then 32, while the decision
is open. Ctrl-C prints what is done so far.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.contestants import Asha, contestant
from benchmarks.worlds import FAMILIES, PROBLEMS, SAMPLES, Array, World, paper, world
from study.assignment import Report
from study.pruners import OWN
from study.spec import Plugin

CONCURRENCY = 4
RACING, FIRST_LOOK = "aime-racing", 8
STEP_KEY = "optimizer.learning_rate"
LENGTHS = (675, 1026, 1324, 1656, 2224, 2833, 3592, 3916, 4025, 4690, 5098, 5453, 5697, 6074)
"""Mean response length between two evaluations of the paper's FIPO run (Figure 3, tokens): late steps cost more."""


def pruners(horizon: int, every: int) -> dict[str, Plugin | Asha]:
    """The pruners compared. Hyperband is told the range of steps, without which its first rungs lie before the first
    evaluation; the others have their defaults."""
    return {
        "none": Plugin(name="none"),
        "median": Plugin(name="median"),
        "percentile": Plugin(name="percentile", percentile=25.0),
        "hyperband": Plugin(name="hyperband", min_resource=every, max_resource=horizon),
        "wilcoxon": Plugin(name="wilcoxon"),
        "tune-asha": Asha(),
        **{name: Plugin(name=name) for name in OWN},
        RACING: Plugin(name="aime"),
    }


def evaluated(index: int, solved: Array, *, samples: int = SAMPLES) -> Report:
    """What a trial reports at evaluation `index`, having solved `solved` [problems] of `samples` each."""
    correct = solved.tolist()
    return Report(paper().steps[index], sum(correct) / samples / PROBLEMS, samples=samples, solved=correct)


@dataclass(frozen=True)
class Outcome:
    """What a pruner did in one study."""

    saved: float
    """Share of the trial-steps that were not trained."""
    tokens_saved: float
    """The same of the tokens that would have been sampled, all trials having the lengths of the paper's run."""
    undrawn: float
    """Share of the responses of all evaluations that were not drawn."""
    best_pruned: bool
    """The trial with the highest true final accuracy was pruned."""
    regret: float
    """True final accuracy of that trial, less that of the trial with the highest reported final accuracy."""


def simulate(pruner: Plugin | Asha, trials: World, *, races: bool = False) -> Outcome:
    """Run one study on a clock that jumps from evaluation to evaluation.

    When it races, evaluations after the base model and before the last step begin with `FIRST_LOOK` responses.
    """
    steps, clock = paper().steps, []
    count, last = len(trials.pace), len(steps) - 1
    ended: dict[int, int] = {}
    drawn, space = 0, {STEP_KEY: {"type": "log-uniform", "low": 1e-7, "high": 1e-5}}
    sampler = Plugin(name="random", seed=0)
    with contestant(pruner, sampler=sampler, space=space, trials=count, steps=steps[-1]) as study:

        def start(now: float) -> None:
            if (asked := study.ask()) is not None:
                heapq.heappush(clock, (now, asked[0], 0))

        def raced(number: int, index: int) -> int:
            """Responses per problem until the study says that they are enough."""
            samples = FIRST_LOOK if races and 0 < index < last else SAMPLES
            while samples < SAMPLES and not study.enough(
                number, evaluated(index, trials.solved[number, index, :, samples - 1], samples=samples)
            ):
                samples *= 2
            return samples

        for _ in range(min(CONCURRENCY, count)):
            start(0.0)
        while clock:
            now, number, index = heapq.heappop(clock)
            samples = raced(number, index)
            drawn += samples
            solved = trials.solved[number, index, :, samples - 1]
            stop = study.report(number, evaluated(index, solved, samples=samples))
            if stop or index == last:
                ended[number] = index
                study.finish(number)
                start(now)
            else:
                heapq.heappush(clock, (now + float(trials.pace[number]), number, index + 1))
    truth, best = trials.accuracy[:, -1], int(trials.accuracy[:, -1].argmax())
    # Of equal ones the first to be sampled, as Optuna's best_trial.
    chosen = max((n for n in sorted(ended) if ended[n] == last), key=lambda n: trials.solved[n, last, :, -1].sum())
    tokens = np.concatenate([[0], np.cumsum(LENGTHS)])
    return Outcome(
        saved=1 - sum(steps[index] for index in ended.values()) / (count * steps[-1]),
        tokens_saved=1 - float(tokens[list(ended.values())].sum()) / (count * tokens[-1]),
        undrawn=1 - drawn / (count * len(steps) * SAMPLES),
        best_pruned=ended[best] < last,
        regret=float(truth[best] - truth[chosen]),
    )


def table(outcomes: Mapping[tuple[str, str], Sequence[Outcome]]) -> str:
    """One line per family and pruner, and one per pruner over all families; ± is 1.96 standard errors over studies.

    Steps, tokens and responses are the shares that were saved.
    """
    head = f"{'family':13} {'pruner':11} {'studies':>7} {'steps saved':>13} {'tokens':>7} {'responses':>9}"
    lines = [f"{head} {'best pruned':>22} {'regret':>16}"]
    names = dict.fromkeys(pruner for _, pruner in outcomes)
    groups = {("all", name): [one for (_, each), f in outcomes.items() if each == name for one in f] for name in names}
    for (family, pruner), found in {**outcomes, **groups}.items():
        saved, tokens, undrawn, regret = (
            np.array([getattr(one, name) for one in found]) for name in ("saved", "tokens_saved", "undrawn", "regret")
        )
        wrong, count = sum(one.best_pruned for one in found), len(found)
        low, high = wilson(wrong, count)
        lines.append(
            f"{family:13} {pruner:11} {count:7d} {saved.mean():6.1%} ±{_error(saved):5.1%} {tokens.mean():7.1%}"
            f" {undrawn.mean():9.1%} {wrong / count:7.1%} ({low:5.1%}..{high:5.1%})"
            f" {100 * regret.mean():7.2f} ±{100 * _error(regret):.2f} pt"
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
