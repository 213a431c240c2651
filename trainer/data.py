r"""Problems from a hub data set or a local file: schemas recognised, repeats removed, prompts built.

Recognised rows, column names in any capitalisation: `problem` or `question` with `answer` (HuggingFaceH4/aime_2024,
Maxwell-Jia/AIME_2024, math-ai/aime25, opencompass/AIME2025), and verl's nested `prompt` messages with
`reward_model.ground_truth` (BytedTsinghua-SIA/DAPO-Math-17k with about 100 copies of a problem, its AIME-2024 with 32).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from trainer.config import DataConfig, TrainerConfig
from trainer.errors import UserError
from trainer.problems import EMBEDDED, Problem, embedded_problems
from trainer.rewards import normalise

log = logging.getLogger(__name__)

TEXT_COLUMNS, ANSWER_COLUMNS = ("problem", "question"), ("answer", "ground_truth")
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
TEMPLATES = {
    "plain": "{problem}",
    "boxed": "{problem}\n\nThink step by step and put the final answer in \\boxed{{}}.",
    "answer": "{problem}\n\nThink step by step. End with a line of the form 'Answer: ' followed by the answer alone.",
}


def load_problems(path: str) -> list[Problem]:
    """The distinct problems of `embedded:NAME`, a file (JSONL, JSON, CSV, parquet) or a hub name `owner/name[:split]`.

    A problem that occurs more than once counts once, and a log line says how many repeats there were.

    Raises:
        UserError: nothing there, a schema that is not known, or a row without an answer.
    """
    if path.startswith(EMBEDDED):
        return embedded_problems(path)
    problems = [_problem(row, f"{path} row {number}") for number, row in enumerate(_rows(path), start=1)]
    if not problems:
        raise UserError(f"{path}: holds no rows; give a file with at least one problem")
    distinct = list({each.prompt: each for each in reversed(problems)}.values())[::-1]
    if len(distinct) < len(problems):
        log.warning("%s: %d rows are %d distinct problems; each is used once", path, len(problems), len(distinct))
    return distinct


def require_integers(problems: Iterable[Problem], *, name: str, path: str) -> None:
    """Raise UserError unless every answer is an integer 0 to 999, as AIME's are."""
    for number, problem in enumerate(problems, start=1):
        answer = normalise(problem.answer)
        if not answer.isdigit() or int(answer) > 999:
            raise UserError(
                f"{path}: problem {number} of set {name} has the answer {problem.answer!r}; an AIME answer is an"
                " integer 0 to 999; mend the file, or give the set a name that does not begin with aime"
            )


def evaluation_problems(config: TrainerConfig) -> dict[str, list[Problem]]:
    """The problems of every evaluation set, by its name. Raises UserError for an AIME set without integer answers."""
    sets = {each.name: load_problems(each.path) for each in config.evaluation.sets}
    for each in config.evaluation.sets:
        if each.name.lower().startswith("aime"):
            require_integers(sets[each.name], name=each.name, path=each.path)
    return sets


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, problem: Problem, config: DataConfig) -> tuple[int, ...]:
    """Token ids of the prompt for `problem`: the template, unless the row brought a whole prompt, then the chat format.

    Raises:
        UserError: `data.chat` with a tokenizer that has no chat template.
    """
    text = problem.prompt if problem.whole else TEMPLATES[config.template].format(problem=problem.prompt)
    if not config.chat:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    if tokenizer.chat_template is None:
        raise UserError("data.chat = true: the tokenizer has no chat template; set data.chat to false")
    messages = [{"role": "user", "content": text}]
    return tuple(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))


def fitting(problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase, config: DataConfig) -> list[Problem]:
    """Those whose prompt is at most `data.max_prompt_length` tokens; the others are counted in a log line.

    Raises:
        UserError: none is left.
    """
    kept = [each for each in problems if len(prompt_tokens(tokenizer, each, config)) <= config.max_prompt_length]
    if len(kept) < len(problems):
        log.warning(
            "%s: %d of %d prompts are longer than data.max_prompt_length = %d tokens and are left out",
            config.train, len(problems) - len(kept), len(problems), config.max_prompt_length,
        )  # fmt: skip
    if not kept:
        raise UserError(
            f"data.max_prompt_length = {config.max_prompt_length}: every one of the {len(problems)} prompts in"
            f" {config.train} is longer; raise it"
        )
    return kept


def _rows(path: str) -> list[dict[str, Any]]:
    file = Path(path).expanduser()
    if file.suffix.lower() in SUFFIXES or file.exists():
        return _file_rows(file)
    if path.count("/") != 1 or path.startswith((".", "/", "~")):
        raise UserError(
            f"{path}: no such file; give a file ({', '.join(SUFFIXES)}), a hub name owner/name or embedded:train"
        )
    import datasets  # only here: it takes seconds to import

    name, _, split = path.partition(":")
    try:
        return list(datasets.load_dataset(name, split=split or "train", trust_remote_code=False))
    except Exception as error:  # datasets raises whatever its many readers and the network raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: the data set cannot be loaded ({reason}); check the name and the split") from None


def _file_rows(file: Path) -> list[dict[str, Any]]:
    import polars

    readers = {
        ".jsonl": lambda: polars.read_ndjson(file, infer_schema_length=None),
        ".json": lambda: polars.read_json(file, infer_schema_length=None),
        ".csv": lambda: polars.read_csv(file, infer_schema_length=None),
        ".parquet": lambda: polars.read_parquet(file),
    }
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise UserError(f"{file}: unknown kind of file; allowed: {', '.join(SUFFIXES)}; convert it")
    try:
        return reader().to_dicts()
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; check the path") from None
    except (OSError, polars.exceptions.PolarsError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{file}: cannot be read ({reason}); give one problem a row as {file.suffix}") from None


def _problem(row: dict[str, Any], where: str) -> Problem:
    columns = {name.lower(): value for name, value in row.items()}
    answer = next((columns[name] for name in ANSWER_COLUMNS if columns.get(name) is not None), None)
    if isinstance(columns.get("reward_model"), dict):
        answer = columns["reward_model"].get("ground_truth")
    messages = columns.get("prompt")
    text, whole = next((columns[name] for name in TEXT_COLUMNS if columns.get(name)), None), False
    if isinstance(messages, list) and messages:
        text, whole = messages[-1].get("content"), True
    elif text is None and isinstance(messages, str):
        text = messages
    if not text:
        raise UserError(
            f"{where}: no problem text; its columns are {', '.join(row)}, known are problem, question and prompt;"
            " rename the column"
        )
    if answer is None or not str(answer).strip():
        raise UserError(
            f"{where}: no answer; its columns are {', '.join(row)}, known are answer, ground_truth and"
            " reward_model.ground_truth; rename the column or drop the row"
        )
    return Problem(str(text), str(answer), whole)
