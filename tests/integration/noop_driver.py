"""The driver of a study whose trials do nothing. Made to be killed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import ray
from ray import tune

from study.bridge import Bridge
from study.lock import driver_lock
from study.spec import StudySpec
from study.storage import driving
from study.tuner import run_trials

STEPS = 4


class NoOp(tune.Trainable):
    """A curve that follows from the sampled value. It has no checkpoint: started again, it tells everything again."""

    def setup(self, config):
        self.reset_config(config)

    def reset_config(self, config):
        self.x, self.at = config["fipo.epsilon_f_low"], 0
        return True

    def step(self):
        if self.at > STEPS:
            return {"done": True}
        self.at += 1
        return {"step": self.at - 1, "value": 0.2 + self.x * (self.at - 1) / STEPS, "seconds": float(self.at - 1)}


class Talkative(Bridge):
    """Prints a line before each report, so that a test can time its kills by them."""

    def report(self, number, report):
        print("report", flush=True)
        return super().report(number, report)


def drive(place: str, address: str) -> None:
    """Drive the study of the directory `place` on the Ray at `address`, to its end."""
    directory = Path(place)
    spec = StudySpec.from_file(directory / "study.yaml")
    ray.init(address=address, logging_level="error", log_to_driver=False)
    with (
        driver_lock(directory),
        driving(spec, directory) as study,
        tempfile.TemporaryDirectory() as scratch,
    ):
        bridge = Talkative(study, spec, directory)
        run_trials(bridge, NoOp, concurrency=lambda: spec.concurrency, scratch=Path(scratch))
