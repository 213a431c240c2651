"""What trackers load, and keep of a trial; what they write is seen in test_tuner.py, where real trials are tracked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from study.assignment import Report
from study.commands import Enqueue, carry_out
from trainer.config import TrainerConfig

VARIABLES = ("WANDB_DIR", "WANDB_MODE", "WANDB_ENTITY", "WANDB_BASE_URL")
CODE = """
import sys
from pathlib import Path
from ray.tune import tune
from study.spec import StudySpec
from study.trackers import trackers

space = {"fipo.gamma": {"type": "choice", "values": [0.9, 0.99]}}
found = trackers(StudySpec(name="small", trials=1, space=space), Path(sys.argv[1]))
tune.air_usage.tag_callbacks(found)  # as Tune does with them, whether its telemetry is on or off
loaded = {"torch", "wandb", "mlflow", "comet_ml", "aim"} & set(sys.modules)
assert not loaded, loaded
import torch  # can be loaded afterwards
"""


def test_a_driver_loads_neither_torch_nor_a_tracker_that_was_not_asked_for(tmp_path: Path) -> None:
    """Each takes a second or two of the CPU before the first trial begins."""
    ended = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr[-500:]


def test_what_the_drivers_environment_says_of_wandb_is_said_to_its_actor_which_has_another_on_a_cluster(
    make_spec, tmp_path, monkeypatch
):
    """Its runs lie in the study unless the user has chosen a place."""
    from study.trackers import trackers

    def told() -> dict[str, object]:
        *_, wandb = trackers(make_spec(tracking={"wandb": {"project": "p"}}), tmp_path)
        return wandb.kwargs

    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert told() == {"dir": str(tmp_path)}
    for name, value in zip(VARIABLES, ("/elsewhere", "offline", "me", "http://127.0.0.1:9"), strict=True):
        monkeypatch.setenv(name, value)
    server = {"base_url": "http://127.0.0.1:9"}
    assert told() == {"dir": "/elsewhere", "mode": "offline", "entity": "me", "settings": server}


def test_a_tracker_keeps_what_sets_a_trial_apart_from_each_other_one(make_bridge):
    from study.trackers import logged

    bridge = make_bridge(
        trials=2,
        space={"fipo.half_life": {"type": "choice", "values": [8]}},
        enqueue=[{"label": "DAPO", "values": {"fipo.half_life": 8, "fipo.epsilon_f_high": 0}}],
        replicas={"seeds": 2, "top": 1},
    )

    def keeps() -> dict[str, object]:
        assignment = bridge.ask()
        bridge.report(assignment.number, Report(bridge.spec.steps, 0.5))
        bridge.finish(assignment.number)
        return logged(bridge.spec, assignment)

    dapo = {"fipo.half_life": 8, "fipo.epsilon_f_high": 0, "label": "DAPO"}
    fipo = {"fipo.half_life": 8, "fipo.epsilon_f_high": TrainerConfig().fipo.epsilon_f_high}
    assert keeps() == {**dapo, "seed": 0} and keeps() == {**fipo, "seed": 0}
    confirming = [keeps() for _ in range(4)]
    del dapo["label"]
    assert all({**dapo, "confirms": 0, "seed": seed} in confirming for seed in (1, 2))
    assert all({**fipo, "confirms": 1, "seed": seed} in confirming for seed in (1, 2))
    later = {"fipo.half_life": 8, "optimizer.learning_rate": 1e-3}
    carry_out(bridge, Enqueue(label="its rate", values=later))
    assert keeps() == {**fipo, **later, "label": "its rate", "seed": 0}
