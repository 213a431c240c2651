"""What trackers load; what they write is seen in test_tuner.py, where real trials are tracked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
