r"""Problems from a hub data set or a local file: schemas recognised, repeats removed.

Recognised rows, column names in any capitalisation: `problem` or `question` with `answer` (HuggingFaceH4/aime_2024,
Maxwell-Jia/AIME_2024, math-ai/aime25:test, opencompass/AIME2025:AIME2025-I+AIME2025-II:test), and verl's nested
`prompt` messages with `reward_model.ground_truth` (BytedTsinghua-SIA/DAPO-Math-17k with about 100 copies of a problem,
its AIME-2024 with 32).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars

from trainer.config import TrainerConfig
from trainer.errors import UserError
from trainer.paths import expanded, is_local
from trainer.problems import EMBEDDED, Problem, embedded_problems
from trainer.rewards import normalise

log = logging.getLogger(__name__)

TEXT_COLUMNS, ANSWER_COLUMNS = ("problem", "question"), ("answer", "ground_truth")
NESTED_COLUMNS = ("prompt", "reward_model")
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")

Row = tuple[str, dict[str, Any]]
"""Where it stands (`line 3` or `row 3`), and its columns."""


def load_problems(path: str) -> list[Problem]:
    """The distinct problems of `embedded:NAME`, a file (JSONL, JSON, CSV, parquet) or a hub name.

    A hub name is `owner/name`, `owner/name:split` or `owner/name:config:split`, the split being train where none is
    named; `+` between configs or splits takes both. A problem that occurs more than once counts once, and a log line
    says how many repeats there were.

    Raises:
        UserError: nothing there, a schema that is not known, or a row without an answer.
    """
    if path.startswith(EMBEDDED):
        return embedded_problems(path)
    count, rows = _rows(path)
    problems = [_problem(row, f"{path} {where}") for where, row in rows]
    if not problems:
        raise UserError(f"{path}: holds no rows; give a file with at least one problem")
    distinct: dict[str, Problem] = {}
    disputed = set()
    for each in problems:
        first = distinct.setdefault(each.prompt, each)
        if normalise(first.answer) != normalise(each.answer):
            disputed.add(each.prompt)
    if len(distinct) < count:
        log.warning("%s: %d rows are %d distinct problems; each is used once", path, count, len(distinct))
    if disputed:
        log.warning("%s: problems with several answers, of which the first is taken: %d", path, len(disputed))
    return list(distinct.values())


def require_integers(problems: Iterable[Problem], *, name: str, path: str) -> None:
    """Raise UserError unless every answer is an integer 0 to 999, as AIME's are."""
    for number, problem in enumerate(problems, start=1):
        answer = normalise(problem.answer)
        if not re.fullmatch("[0-9]{1,3}", answer):
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


def _rows(path: str) -> tuple[int, list[Row]]:
    """How many rows there are, and the rows themselves, some repeats already left out."""
    file = Path(expanded(path))
    if file.suffix.lower() in SUFFIXES or file.exists():
        return _file_rows(file)
    if path.count("/") != 1 or is_local(path):
        raise UserError(
            f"{path}: no such file; give a file ({', '.join(SUFFIXES)}), a hub name owner/name or embedded:train"
        )
    import datasets  # only here: it takes seconds to import

    name, *named = path.split(":", 2)
    split = named.pop() if named else "train"
    configs = named.pop().split("+") if named else [None]
    try:
        parts = [datasets.load_dataset(name, each, split=split, trust_remote_code=False) for each in configs]
        return _distinct_rows(polars.concat([each.to_polars() for each in parts], how="diagonal_relaxed"))
    except Exception as error:  # datasets raises whatever its many readers and the network raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path}: the data set cannot be loaded ({reason}); check the name, or write owner/name:config:split"
        ) from None


def _file_rows(file: Path) -> tuple[int, list[Row]]:
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{file}: unknown kind of file; allowed: {', '.join(SUFFIXES)}; convert it")
    try:
        if suffix in (".jsonl", ".json"):
            rows = _json_rows(file)
            return len(rows), rows
        # Text stays text, so that no answer loses a zero or gains a decimal point.
        read = polars.read_parquet(file) if suffix == ".parquet" else polars.read_csv(file, infer_schema=False)
        return _distinct_rows(read)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; check the path") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except (OSError, polars.exceptions.PolarsError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{file}: cannot be read ({reason}); give one problem a row as {suffix}") from None


def _distinct_rows(frame: polars.DataFrame) -> tuple[int, list[Row]]:
    """Repeats go before rows become objects: of the 1.8 million rows of DAPO's set 17 thousand are left."""
    known = [name for name in frame.columns if name.lower() in (*TEXT_COLUMNS, *ANSWER_COLUMNS, *NESTED_COLUMNS)]
    kept = frame.with_row_index("row number", offset=1)
    if known:
        kept = kept.unique(subset=known, keep="first", maintain_order=True)
    return frame.height, [(f"row {row.pop('row number')}", row) for row in kept.to_dicts()]


def _json_rows(file: Path) -> list[Row]:
    """One object a line, or one array of objects, by the suffix."""
    text = file.read_text(encoding="utf-8-sig")
    if file.suffix.lower() == ".json":
        rows = _parsed(text, str(file))
        if not isinstance(rows, list):
            raise UserError(f"{file}: is not a JSON array of objects; write one, or one object a line as .jsonl")
        found = [(f"row {number}", row) for number, row in enumerate(rows, start=1)]
    else:
        lines = enumerate(text.split("\n"), start=1)  # splitlines would cut at U+2028 within a string
        found = [(f"line {at}", _parsed(line, f"{file} line {at}")) for at, line in lines if line.strip()]
    for where, row in found:
        if not isinstance(row, dict):
            raise UserError(f'{file} {where}: is not a JSON object; write {{"problem": ..., "answer": ...}}')
    return found


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "a number is too long" if isinstance(error, ValueError) else "nested too deeply")
        raise UserError(f"{where}: is not JSON ({reason}); mend or remove it") from None


def _problem(row: dict[str, Any], where: str) -> Problem:
    columns = {name.lower(): value for name, value in row.items()}
    answer = next((columns[name] for name in ANSWER_COLUMNS if columns.get(name) is not None), None)
    if isinstance(columns.get("reward_model"), dict):
        answer = columns["reward_model"].get("ground_truth")
    messages = columns.get("prompt")
    text, whole = next((columns[name] for name in TEXT_COLUMNS if columns.get(name) is not None), None), False
    if isinstance(messages, list) and messages:
        if len(messages) > 1:
            raise UserError(
                f"{where}: prompt has {len(messages)} messages, only one of the user is known; put all of the text"
                " into it"
            )
        text, whole = messages[0].get("content") if isinstance(messages[0], dict) else None, True
    elif text is None:
        text = messages
    if not isinstance(text, str) or not text.strip():
        raise UserError(
            f"{where}: no problem text; its columns are {', '.join(row)}, known are problem, question and prompt;"
            " rename the column, or mend the row"
        )
    if not isinstance(answer, str | int | float) or isinstance(answer, bool) or not str(answer).strip():
        raise UserError(
            f"{where}: no answer; its columns are {', '.join(row)}, known are answer, ground_truth and"
            " reward_model.ground_truth, text or a number; rename the column, or mend or drop the row"
        )
    return Problem(text, str(answer), whole)
