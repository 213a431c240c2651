"""The trained policy of a trial as a Hugging Face directory: safetensors, tokenizer and a model card."""

from __future__ import annotations

from pathlib import Path

import yaml

from study.backup import OLDER
from study.export.provenance import provenance
from study.export.recipe import trial_config
from study.export.script import plain
from study.results import StudyResults, TrialResult
from study.tables import named
from trainer.errors import UserError
from trainer.paths import is_local


def newest_checkpoint(results: StudyResults, trial: TrialResult) -> Path:
    """The newest whole checkpoint of the trial. Raises UserError when it kept none, or not that of its end."""
    from trainer.checkpoint import complete

    kept = complete(trial.directory / "checkpoints")
    if not kept:
        raise UserError(
            f"--to hf: trial {trial.number} has no checkpoint under {trial.directory / 'checkpoints'};"
            " choose a trial that trained to its end, or train it again with fipo export --to yaml and fipo train"
        )
    reached, last = _step(kept[-1]), results.spec.steps
    if trial.state == "COMPLETE" and reached < last:
        newest = f"{named(trial)} is COMPLETE, and its newest checkpoint is of step {reached} of {last}"
        raise UserError(f"--to hf: {newest}: {results.directory} {OLDER}")
    return kept[-1]


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def write_policy(results: StudyResults, trial: TrialResult, out: Path) -> None:
    """Write the weights of the trial's newest checkpoint to `out`, which appears whole or not at all.

    Raises:
        UserError: the trial has no checkpoint of its end, its architecture is not its model's, or `out` cannot be
            written.
    """
    from trainer import export

    config, checkpoint = trial_config(trial), newest_checkpoint(results, trial)
    card = model_card(results, trial, step=_step(checkpoint))
    export.write_policy(config.model, checkpoint, out, card=card)


def model_card(results: StudyResults, trial: TrialResult, *, step: int) -> str:
    """Markdown with front matter: lineage, scores with their errors, the config, how to use it."""
    config = trial_config(trial)
    # A control's weights are told by what they are: GRPO too is DAPO's loss with clips of its own.
    tag, loss = ("dapo", "DAPO's loss, all influence weights 1,") if config.fipo.is_dapo else ("fipo", "FIPO")
    front: dict[str, object] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": [tag, "reinforcement-learning", "math"],
    }
    if config.model.path.count("/") == 1 and not is_local(config.model.path):
        front["base_model"] = config.model.path  # the hub takes its own names only
    settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    lines = "\n".join(f"- {markdown(line)}" for line in provenance(results, trial))
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {markdown(results.spec.name)}, trial {trial.number}\n\n"
        f"Policy after training step {step}, trained with {loss} (arXiv 2603.19835) from"
        f" {markdown(config.model.path)}.\n"
        f"\n{lines}\n\nIt continues prompts as in training: template `{config.data.template}`, chat {config.data.chat}."
        " Load it with `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`; no custom code is"
        f" needed.\n\n## Training config\n\n```yaml\n{settings}```\n"
    )


def markdown(text: str) -> str:
    """One line in which nothing is markup."""
    escaped = plain(text).replace("\\", "\\\\")
    for each in "`*_[]<>#|":
        escaped = escaped.replace(each, "&lt;" if each == "<" else "&gt;" if each == ">" else f"\\{each}")
    return escaped
