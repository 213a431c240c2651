"""How fast results go through the bridge: Ray Tune with our bridge, against Tune with its own OptunaSearch and ASHA.

    python -m benchmarks.overhead                      SQLite and journal, 8 trials at a time, 3 runs of each
    python -m benchmarks.overhead --storage sqlite --concurrency 64 --runs 1

Trials do nothing: each step returns a number at once, so that the time between two results is the driver's. Both sides
run the same trials on the same kind of Optuna storage, decide on each result by successive halving (all are equally
good, so that none is stopped and both sides have the same work), and log to JSON and TensorBoard (Tune's own default
is those and CSV). Each run is a process of its own with a Ray of its own; its rate is taken from when as many trials
as may run at a time have told a result, so without the start of Ray and of their processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.result import Row, compare, show

STEPS = 200
SPACE = {"fipo.epsilon_f_low": {"type": "uniform", "low": 0, "high": 1}}
RUNS = 3


def trainable(steps: int, concurrency: int, started: Path) -> type:
    """A trial of `steps` results, all of them as good as any other's: each is decided upon, and none is stopped.

    No process tells a result before `concurrency` have begun, each a file in `started`: a trial of no work is over
    before the next process has started, and they would run one after the other.
    """
    from ray import tune

    class NoOp(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            started.mkdir(exist_ok=True)
            (started / str(os.getpid())).touch()
            self.reset_config(config)

        def reset_config(self, config: dict[str, Any]) -> bool:
            self.at = 0
            return True

        def step(self) -> dict[str, Any]:
            while self.at == 0 and len(list(started.iterdir())) < concurrency:
                time.sleep(0.01)
            self.at += 1
            return {"step": self.at, "value": 0.5, "done": self.at > steps}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Nothing to keep. Tune asks for it at the end of its own trials, and a trial that cannot has failed."""

    return NoOp


class Pace(NamedTuple):
    """How fast results went through one driver."""

    rate: float
    """Results per second."""
    cpu: float
    """Milliseconds of the driver's processor time per result, which other work on the machine changes little."""


class Times:
    """Wall and processor times of the results and their trials, through a callback of Tune's."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float, str]] = []

    def callback(self) -> Any:
        from ray import tune

        seen = self.seen

        class Seen(tune.Callback):
            def __getstate__(self) -> dict[str, Any]:
                return {}

            def on_trial_result(self, *, trial: Any, **info: Any) -> None:
                seen.append((time.monotonic(), time.process_time(), trial.trial_id))

        return Seen()

    def pace(self, concurrency: int) -> Pace:
        """From when `concurrency` trials have told a result."""
        first: dict[str, int] = {}
        for at, (*_, trial) in enumerate(self.seen):
            first.setdefault(trial, at)
        begun = sorted(first.values())[concurrency - 1]
        (wall, cpu, _), (last_wall, last_cpu, _) = self.seen[begun], self.seen[-1]
        results = len(self.seen) - 1 - begun
        return Pace(results / (last_wall - wall), 1000 * (last_cpu - cpu) / results)


def ours(concurrency: int, storage: str, scratch: Path, *, steps: int = STEPS, **settings: Any) -> Pace:
    """Through `study.tuner.run_trials`; `settings` of the study spec in place of those that the
    other side has as well."""
    _start_ray(concurrency, scratch)
    import study.tuner
    from study.bridge import Bridge
    from study.directory import Staging
    from study.spec import StudySpec
    from study.storage import driving

    common: dict[str, Any] = {
        "trials": 2 * concurrency,
        "sampler": {"name": "random", "seed": 0},
        "pruner": {"name": "successive-halving"},
    }
    spec = StudySpec(
        name="overhead",
        concurrency=concurrency,
        space=SPACE,
        trainer={"steps": steps},
        storage=storage,
        **{**common, **settings},
    )
    staging = Staging(spec, scratch / "study")
    directory = staging.publish()
    times = Times()
    trackers = study.tuner.trackers
    study.tuner.trackers = lambda spec, directory: [*trackers(spec, directory), times.callback()]
    noop = trainable(steps, concurrency, scratch / "started")
    with driving(spec, directory) as optuna_study:
        bridge = Bridge(optuna_study, spec, directory)
        study.tuner.run_trials(bridge, noop, concurrency=lambda: concurrency, scratch=scratch / "tune")
    return times.pace(concurrency)


def tunes(concurrency: int, storage: str, scratch: Path, *, steps: int = STEPS) -> Pace:
    """Through Tune's OptunaSearch and ASHAScheduler."""
    _start_ray(concurrency, scratch)
    import optuna
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback, TBXLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if storage == "sqlite":
        kept: Any = optuna.storages.RDBStorage(f"sqlite:///{scratch / 'optuna.db'}")
    else:
        backend = optuna.storages.journal.JournalFileBackend(str(scratch / "optuna.journal"))
        kept = optuna.storages.JournalStorage(backend)
    space = {key: optuna.distributions.FloatDistribution(each["low"], each["high"]) for key, each in SPACE.items()}
    sampler = optuna.samplers.RandomSampler(seed=0)
    search = OptunaSearch(space, metric="value", mode="max", storage=kept, study_name="overhead", sampler=sampler)
    times = Times()
    tuner = tune.Tuner(
        tune.with_resources(trainable(steps, concurrency, scratch / "started"), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(search, max_concurrent=concurrency),
            scheduler=ASHAScheduler(time_attr="step", metric="value", mode="max", max_t=steps + 1),
            num_samples=2 * concurrency,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch / "tune"),
            verbose=0,
            callbacks=[JsonLoggerCallback(), TBXLoggerCallback(), times.callback()],
        ),
    )
    tuner.fit()
    return times.pace(concurrency)


def _start_ray(concurrency: int, scratch: Path) -> None:
    from study.cluster import prepare_environment

    prepare_environment(local=True)
    import ray

    ray.init(
        address="local", num_cpus=concurrency, include_dashboard=False, logging_level="error", log_to_driver=False,
        _temp_dir=str(scratch / "ray"),
    )  # fmt: skip


def measured(side: str, concurrency: int, storage: str, steps: int = STEPS) -> Pace:
    """One run in a process of its own; Ray needs a short path for its sockets."""
    with tempfile.TemporaryDirectory(prefix="oh-", ignore_cleanup_errors=True) as scratch:
        command = [sys.executable, "-m", "benchmarks.overhead", "--only", side, str(concurrency), storage, str(steps)]
        command.append(scratch)
        told = subprocess.run(command, capture_output=True, text=True, timeout=1800)
        if told.returncode != 0:
            raise RuntimeError(told.stderr[-2000:])
        return Pace(*json.loads(told.stdout.splitlines()[-1]))


def both(concurrency: int, storage: str, runs: int) -> tuple[list[Pace], list[Pace]]:
    """Ours and Tune's own, in turns, so that a busy moment of the machine hits both."""
    pairs = [[measured(side, concurrency, storage) for side in ("ours", "tunes")] for _ in range(runs)]
    mine, theirs = zip(*pairs, strict=True)
    return list(mine), list(theirs)


def share() -> Row:
    """The driver's processor time for one trial of the default study, begin and end included, against that trial."""
    from trainer.config import TrainerConfig
    from trainer.records import Evaluation
    from trainer.train import train

    with tempfile.TemporaryDirectory() as directory:
        told = [each for each in train(TrainerConfig(), Path(directory)) if isinstance(each, Evaluation)]
    results = len(told) + 1  # and Tune's last word
    driver = results * measured("ours", 8, "sqlite", steps=len(told)).cpu / 1000
    ratio = driver / told[-1].seconds
    return Row(
        claim="the driver's processor time for one tiny trial",
        against="the trial's training, alone on a core",
        ours=driver,
        peer=told[-1].seconds,
        unit="s",
        ratio=ratio,
        spread=(ratio, ratio),
        target="<= 0.01",
        note=f"{results} results, 8 trials at a time, SQLite",
    )


def rows(
    storages: Sequence[str] = ("sqlite", "journal"), concurrency: Sequence[int] = (8,), runs: int = RUNS
) -> list[Row]:
    """The claim for each storage and concurrency, and the share of a tiny trial's time."""
    made = []
    for storage in storages:
        for trials in concurrency:
            mine, theirs = both(trials, storage, runs)
            setting, peer = f"{storage}, {trials} trials at a time", "Tune's OptunaSearch + ASHA"
            print(f"{setting}: {mine} against {theirs}", file=sys.stderr, flush=True)
            made.append(
                compare(
                    f"results through the study, {setting}",
                    peer,
                    [each.rate for each in mine],
                    [each.rate for each in theirs],
                    unit="results/s",
                    ratio="ours / peer",
                    target=">= 1",
                    note=f"{STEPS} results per trial, {2 * trials} trials, {runs} runs each",
                )
            )
            made.append(
                compare(
                    f"the driver's processor time per result, {setting}",
                    peer,
                    [each.cpu for each in mine],
                    [each.cpu for each in theirs],
                    unit="ms",
                    ratio="ours / peer",
                )
            )
    if storages[0] == "sqlite" and concurrency[0] == 8:
        made.append(share())
    return made


def main() -> int:
    """Print the rows asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", choices=["sqlite", "journal"], nargs="+", default=["sqlite", "journal"])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[8])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--only", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        side, concurrency, storage, steps, scratch = arguments.only
        pace = {"ours": ours, "tunes": tunes}[side](int(concurrency), storage, Path(scratch), steps=int(steps))
        print(json.dumps(pace), flush=True)
        return 0
    show(rows(arguments.storage, arguments.concurrency, arguments.runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
