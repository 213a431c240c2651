"""The study spec: what is swept, how trials are sampled and pruned, on which resources.

Order of values: trainer defaults < `trainer` (fixed) < sampled from `space` < `--set key=value`.
"""

from __future__ import annotations

import copy
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, field_validator, model_validator

from study.collapse import CollapseRule
from study.space import Distribution, Value
from trainer.config import EvaluationConfig, EvaluationSet, Frozen, TrainerConfig
from trainer.config_file import read_config, validate


class Plugin(Frozen):
    """A sampler or pruner: its name, and beside it any option of Optuna's own constructor."""

    model_config = ConfigDict(extra="allow")

    name: str
    """Which one; an unknown name is refused with the known ones."""

    @model_validator(mode="before")
    @classmethod
    def _by_name_alone(cls, data: Any) -> Any:
        """``pruner: aime`` is ``pruner: {name: aime}``."""
        return {"name": data} if isinstance(data, str) else data

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class Control(Frozen):
    """A trial that is run first with given values, for example DAPO (both epsilon_f 0)."""

    label: str = Field(min_length=1)
    """Names the control in tables and charts."""
    values: dict[str, Value] = Field(min_length=1)
    """Dotted trainer keys and their values, each within its range in `space`; with sampler grid a list need not have
    it. Keys of `space` that are left out are sampled. One beside `space` takes a sampler that does not learn from
    trials (random, grid and other blind ones): others would learn from it unseen."""


class Resources(Frozen):
    """What one trial occupies, and where."""

    workers: int = Field(default=1, ge=1)
    """Worker processes of a trial."""
    cpus_per_worker: float = Field(default=1, gt=0)
    """CPU cores reserved for each worker."""
    gpus_per_worker: float = Field(default=0, ge=0)
    """GPUs reserved for each worker; above 1 a whole number, as Ray has it."""
    retries: int = Field(default=2, ge=0)
    """Times that a trial goes on from its checkpoint after a process or node died, or its ranks lost each other."""
    ray_address: str | None = None
    """Address of a running Ray cluster (`auto` or host:port); none starts Ray on this machine for this study."""

    @field_validator("gpus_per_worker")
    @classmethod
    def _whole_gpus(cls, gpus: float) -> float:
        if gpus > 1 and not gpus.is_integer():
            raise ValueError(f"{gpus:g} is refused by Ray; up to 1 give a fraction, above it a whole number")
        return gpus


class Budget(Frozen):
    """Where a study stops beside its number of trials. What runs then is kept and goes on when it is resumed."""

    gpu_hours: float | None = Field(default=None, gt=0)
    """GPU-hours of all trials together, pruned and failed ones included."""
    hours: float | None = Field(default=None, gt=0)
    """Wall hours of one launch or resume."""
    accuracy: float | None = Field(default=None, gt=0, le=1)
    """The study ends once a trial has completed with at least this metric, a fraction."""


class Replicas(Frozen):
    """The confirmation stage: configurations that completed are trained again with fresh seeds. No pruner stops
    these runs, or compares a trial with them; a sampler learns from them.

    One that collapses still ends there. Results count the seeds that a configuration has lost, and rank it as if they
    had ended at 0. The controls that completed, those of `enqueue` and a DAPO that was enqueued later, are confirmed
    too, so that what beats them is seen to over seeds.
    """

    seeds: int = Field(ge=2)
    """Fresh runs of each configuration. The one that was sampled was chosen for being high, so it counts no more."""
    top: int | None = Field(default=3, ge=1)
    """How many of the best configurations are confirmed, beside the controls; null is all that completed."""

    def confirmed(self, sampled: int, controls: int) -> int:
        """How many of so many configurations are confirmed."""
        return controls + (sampled if self.top is None else min(self.top, sampled))


class Notify(Frozen):
    """Who is told of a study's events. What is sent is JSON: event, study, directory, text and the trial's numbers."""

    command: tuple[str, ...] | None = Field(default=None, min_length=1)
    """A program and its arguments, run without a shell; it gets the JSON on standard input."""
    webhook: str | None = None
    """URL that the JSON is posted to. `$NAME` is read from the environment, so that secrets stay out of this file."""
    on: tuple[Literal["best", "lost", "failed", "finished"], ...] = ("best", "lost", "failed", "finished")
    """Events: a trial completed better than all before, it lost a process (killed, or with its node) and is started
    again, or the room for it, a trial or the study itself failed, the study has ended."""

    @model_validator(mode="before")
    @classmethod
    def _unquoted_on(cls, data: Any) -> Any:
        """YAML 1.1 reads the key ``on`` without quotes as true."""
        return {"on" if key is True else key: each for key, each in data.items()} if isinstance(data, dict) else data


class Wandb(Frozen):
    """Weights & Biases, through Ray Tune's callback; the key is wandb's own (`wandb login` or WANDB_API_KEY).

    Its files are written to `wandb/` in the study directory, or under WANDB_DIR. Without internet launch with
    WANDB_MODE=offline, and later: wandb sync DIR/wandb/offline-run-*.
    """

    project: str = Field(min_length=1)
    """Project that the trials are logged to; they are grouped by the study's name."""


class Mlflow(Frozen):
    """MLflow, through Ray Tune's callback. It takes no @ in a name: avg@8 is avg_at_8 there."""

    tracking_uri: str = Field(min_length=1)
    """Server, for example http://127.0.0.1:5000, or database, as sqlite:////home/me/mlflow.db; MLflow takes a directory
    with MLFLOW_ALLOW_FILE_STORE=true alone. The experiment has the study's name."""


class Tracking(Frozen):
    """Trackers beside TensorBoard, whose files are always written to `tensorboard/` in the study directory."""

    wandb: Wandb | None = None
    """Log to Weights & Biases; needs the package wandb."""
    mlflow: Mlflow | None = None
    """Log to MLflow; needs the package mlflow."""


class StudySpec(Frozen):
    """One study, complete."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    """Names the study in Optuna and its directory."""
    metric: Literal["avg@k", "cons@k", "pass@k"] = "avg@k"
    """What is maximized and pruned on, of the first evaluation set (k = its `samples`)."""
    against: Literal["length"] | None = None
    """A second objective: the mean response length, minimized. It gives a front in place of one best, with samplers
    that can (nsga-ii, tpe, gp), and no pruner can look at two."""
    trials: int = Field(default=20, ge=1)
    """Trials in all, controls, pruned and failed ones included, confirmations not."""
    concurrency: int = Field(default=2, ge=1)
    """Trials at a time, as far as the CPUs and GPUs reach."""
    sampler: Plugin = Plugin(name="tpe")
    """Chooses the next values: an Optuna sampler and its options."""
    pruner: Plugin = Plugin(name="aime")
    """Stops hopeless trials at an evaluation: an Optuna pruner and its options. Steps are training steps."""
    seed: int = Field(default=0, ge=0)
    """Seeds the sampler. The seed of the training runs is the trainer's `seed`."""
    space: dict[str, Distribution] = Field(min_length=1)
    """Dotted trainer keys and their distributions: uniform, log-uniform, int, choice, grid."""
    enqueue: tuple[Control, ...] = ()
    """Controls, run before anything is sampled."""
    trainer: dict[str, Any] = Field(default_factory=dict)
    """Fixed trainer values, nested as in a trainer config."""
    resources: Resources = Resources()
    """What one trial occupies, and where."""
    storage: str = Field(default="sqlite", min_length=1)
    """Where Optuna keeps the trials: `sqlite` or `journal` (both in the study directory), or the URL of a database
    without its password, for example postgresql://me@host/optuna."""
    budget: Budget = Budget()
    """Where the study stops beside its number of trials."""
    collapse: CollapseRule | None = None
    """When a run counts as collapsed and is stopped, whatever the pruner says; null is never."""
    replicas: Replicas | None = None
    """Confirm the best configurations with more seeds; null is no confirmation."""
    notify: Notify | None = None
    """Who is told when something happens; null is no one."""
    tracking: Tracking = Tracking()
    """Trackers beside TensorBoard."""

    @field_validator("storage")
    @classmethod
    def _no_password(cls, value: str) -> str:
        if value in ("sqlite", "journal"):
            return value
        parts = urllib.parse.urlsplit(value)
        if not parts.scheme or not parts.netloc:  # the value may hold a password all the same
            raise ValueError("is not sqlite, journal or a database URL; for example postgresql://me@host/db")
        if parts.password or re.search("passw|pwd", urllib.parse.unquote(parts.query), re.IGNORECASE):
            raise ValueError(
                "the URL holds a password, which would be written to study.yaml; leave it out and put it into"
                " PGPASSWORD or ~/.pgpass"
            )
        return value

    def config(self, values: Mapping[str, Any], *, source: str = "trial") -> TrainerConfig:
        """The trainer config with `values` (dotted keys) over the fixed ones. Raises UserError when it is not valid."""
        return validate(TrainerConfig, self.trainer_values(values), source=source)

    def trainer_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The fixed values with `values` (dotted keys) over them, nested."""
        data = copy.deepcopy(self.trainer)
        for key, value in values.items():
            set_dotted(data, key, value)
        return data

    @property
    def steps(self) -> int:
        """Training steps of every trial; they are never swept."""
        return int(self._fixed("steps"))

    @property
    def training_seed(self) -> int:
        """The seed of its training runs, but of those that are given another."""
        return int(self._fixed("seed"))

    @property
    def engine_width(self) -> int:
        """The ranks that share one vLLM engine."""
        return int(self.trainer.get("rollout", {}).get("vllm", {}).get("tensor_parallel_size", 1))

    def _fixed(self, key: str) -> Any:
        return self.trainer.get(key, TrainerConfig.model_fields[key].default)

    def beside_space(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Those of a control's `values` that no other trial varies, since `space` does not have their keys."""
        return {key: value for key, value in values.items() if key not in self.space}

    def metric_name(self) -> str:
        """For example `aime_2024/avg@32`. Evaluation is the same in all trials."""
        return f"{self.selecting.name}/{self.metric.replace('@k', '')}@{self.selecting.samples}"

    @property
    def selecting(self) -> EvaluationSet:
        """The evaluation set that chooses, which is the first; the others are only reported."""
        return self.evaluation_config().sets[0]

    def evaluation_config(self) -> EvaluationConfig:
        """The trainer's evaluation part; it is never swept, so it needs no sampled values."""
        return EvaluationConfig.model_validate(self.trainer.get("evaluation", {}))

    def differing(self, other: StudySpec) -> list[str]:
        """Keys at the top whose values are not the same in both."""
        return [key for key in type(self).model_fields if getattr(self, key) != getattr(other, key)]

    def comparable(self) -> dict[str, Any]:
        """What all trials of a study have in common, or they could not be compared: JSON values by dotted key."""
        return flat(self.model_dump(mode="json", include={"metric", "against", "space", "trainer"}))

    def to_yaml(self) -> str:
        """The spec as YAML text that reads back to an equal spec."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @classmethod
    def from_file(cls, path: Path) -> StudySpec:
        """Read a complete spec (`study.yaml`), checking its shape only. For one that a person wrote: `load_spec`."""
        return read_config(cls, path)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; a list is one value."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def set_dotted(data: dict[str, Any], key: str, value: Any) -> None:
    """Set ``data["a"]["b"] = value`` for key ``a.b``, making mappings on the way."""
    *parents, last = key.split(".")
    for part in parents:
        if not isinstance(data.get(part), dict):
            data[part] = {}
        data = data[part]
    data[last] = value


def get_dotted(config: Any, key: str) -> Any:
    """The value of dotted `key` in a config."""
    for part in key.split("."):
        config = getattr(config, part)
    return config
