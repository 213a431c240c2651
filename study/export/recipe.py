"""The run to be exported: the trial's own config, or its FIPO settings at the scale of a preset."""

from __future__ import annotations

from dataclasses import dataclass

from study.export.transfer import moved
from study.results import StudyResults, TrialResult
from study.space import few_digits
from study.spec import get_dotted
from trainer.config import FipoConfig, TrainerConfig
from trainer.config_file import read_config, validate
from trainer.errors import UserError
from trainer.presets import read_preset
from trainer.prompts import TEMPLATES


@dataclass(frozen=True)
class Machines:
    """What a run is spread over. It changes speed and memory, not what is learned."""

    nodes: int = 1
    gpus_per_node: int = 8
    engine_gpus: int = 1
    """GPUs that share one rollout engine (tensor parallel)."""
    engine_memory: float = 0.5
    """Share of each GPU's memory for the rollout engine."""
    sequence_gpus: int = 1
    """GPUs that share one sequence in training."""
    offload: bool = False
    """Parameters and optimizer state lie in the memory of the host while the rollout engine has the GPUs."""

    @property
    def gpus(self) -> int:
        """All of them."""
        return self.nodes * self.gpus_per_node


MACHINES = {"qwen2.5_32b": Machines(nodes=16, engine_gpus=4, engine_memory=0.8, sequence_gpus=8, offload=True)}
"""Of a preset, where the authors' own launch script says it."""
POSITIONS = {"qwen2.5_7b_math": 4096}
"""Of a preset, what config.json of its model allows, where that is fewer than its prompts and responses need."""


@dataclass(frozen=True)
class Recipe:
    """What a launch script or config file is to say."""

    config: TrainerConfig
    name: str
    """Names the run."""
    machines: Machines
    notes: tuple[str, ...] = ()
    """For the top of the file."""
    elsewhere: tuple[str, ...] = ()
    """Those of them that say how far this is from where the values were found, or what to do before; for the user's
    eyes at once."""

    ranks: tuple[int, int] = (1, 1)
    """Nodes, and processes on each, with which this trainer runs it."""

    @property
    def command(self) -> str:
        """How this trainer is started, the config to follow; `--out` is left to the user, as its default is."""
        nodes, processes = self.ranks
        if nodes * processes == 1:
            return "fipo train"
        several = f"--nnodes {nodes} --rdzv-backend c10d --rdzv-endpoint HOST:29500 " if nodes > 1 else ""
        return f"torchrun {several}--nproc-per-node {processes} -m trainer --out runs/{self.name}"

    @property
    def minibatches(self) -> int:
        """Optimizer steps per training step."""
        return self.config.rollout.prompts_per_step // self.config.optimizer.prompts_per_minibatch

    @property
    def samples_per_update(self) -> int:
        """Responses in one optimizer step."""
        return self.config.optimizer.prompts_per_minibatch * self.config.rollout.group_size


def trial_config(trial: TrialResult) -> TrainerConfig:
    """The complete config that the trial ran with. Raises UserError when its file is missing or damaged."""
    path = trial.directory / "config.yaml"
    if not path.exists():
        raise UserError(f"{path}: trial {trial.number} has no config, it was removed or not yet begun; choose another")
    return read_config(TrainerConfig, path)


def make_recipe(results: StudyResults, trial: TrialResult, *, preset: str | None) -> Recipe:
    """The trial's run; with `preset` its `fipo` part at the model, data, lengths, batches and optimizer of the preset.

    Raises:
        UserError: unknown preset, or FIPO settings that are not valid at its scale.
    """
    name = f"{results.spec.name}-trial-{trial.number}"
    own = trial_config(trial)
    if preset is None:
        resources, vllm = results.spec.resources, own.rollout.vllm
        gpus = max(1, round(resources.workers * resources.gpus_per_worker)) if resources.gpus_per_worker else 8
        nodes = next(count for count in range(-(-gpus // 8), gpus + 1) if gpus % count == 0)  # of at most 8 each
        machines = Machines(nodes, gpus // nodes, vllm.tensor_parallel_size, vllm.gpu_memory_utilization)
        workers = (nodes, gpus // nodes) if resources.gpus_per_worker == 1 else (1, resources.workers)
        return Recipe(own, name, machines, ranks=workers)
    scale, source = read_preset(preset), f"--preset {preset}"
    config = validate(TrainerConfig, scale | {"fipo": own.fipo.model_dump(), "seed": own.seed}, source=source)
    left = [key for key in results.spec.space if not key.startswith("fipo.")]
    notes = [
        f"scale: preset {preset} (the paper's recipe); only the fipo settings are the trial's, from {own.model.path}"
    ]
    notes += [
        f"not carried over: {key} = {get_dotted(own, key)} of the trial; {get_dotted(config, key)} is the preset's"
        for key in left
    ]
    mine, its = (_shown(each.fipo) for each in (own, validate(TrainerConfig, scale, source=source)))
    swept = {key.replace("gamma", "half_life") for key in results.spec.space}
    notes += [
        f"taken along though not swept: {key} = {value} of the trial; {its[key]} is the preset's"
        for key, value in mine.items()
        if value != its[key] and key not in swept
    ]
    elsewhere = (*_too_few_positions(preset, config), *moved(trial, own, config))
    machines = MACHINES.get(preset, Machines())
    ranks = (machines.nodes, machines.gpus_per_node)
    return Recipe(config, f"{name}-{preset}", machines, (*notes, *elsewhere), elsewhere, ranks)


def _too_few_positions(preset: str, config: TrainerConfig) -> list[str]:
    """What to do about the model of `preset` before a run: whoever launches it finds out when the engines start."""
    if preset not in POSITIONS:
        return []
    needed = config.data.max_prompt_length + config.rollout.max_response_length
    return [
        f"TOO FEW POSITIONS: config.json of {config.model.path} allows {POSITIONS[preset]:,}, and prompt and response"
        f" have up to {needed:,}. Name a local copy in its place, with max_position_embeddings 32768, as verl's DAPO"
        " recipes for this model do."
    ]


def _shown(fipo: FipoConfig) -> dict[str, str]:
    """Its values by key of a study's file, as they are shown, the discount as a half-life where it has one."""
    discount = few_digits(fipo.tau) if fipo.tau is not None else f"null (gamma = {fipo.discount:g})"
    values = {f"fipo.{name}": few_digits(value) for name, value in fipo.model_dump(exclude={"gamma"}).items()}
    return values | {"fipo.half_life": discount}


def require_outside(recipe: Recipe, target: str) -> None:
    """Raise UserError when the config uses what only this trainer has: its embedded model or problems."""
    config = recipe.config
    used = {"model.path": config.model.path, "data.train": config.data.train}
    used |= {f"evaluation set {each.name}": each.path for each in config.evaluation.sets}
    for key, value in used.items():
        if value.partition(":")[0] == "embedded":
            raise UserError(
                f"--to {target}: {key} = {value} exists in this trainer only; take the scale of a real run with"
                " --preset qwen2.5_32b (or qwen2.5_7b_math), or export a study of a real model"
            )


def asks(template: str) -> str:
    """What stands around a bare problem, for whoever writes the data: ``template 'plain', "PROBLEM"``. A row that
    brings a whole prompt, as verl's schema does, is asked as it is (`trainer.data`)."""
    text = TEMPLATES[template].format(problem="PROBLEM").replace("\n", "\\n")
    return f'template {template!r}, "{text}"'


def local_file(path: str, suffix: str) -> str:
    """`path` when it is a file with `suffix`, else where the file made of that hub data set is looked for."""
    if path.lower().endswith(suffix):
        return path
    bare = path.split(":")[0].rstrip("/").rsplit("/", 1)[-1]
    stem = bare.rsplit(".", 1)[0] if bare.lower().endswith((".jsonl", ".json", ".csv", ".parquet")) else bare
    return f"data/{stem}{suffix}"
