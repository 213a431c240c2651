"""Write docs/study_file.md from the models that read a study file: `python docs/study_file.py`.

Types, defaults, ranges and descriptions come from `study/spec.py`, `trainer/config.py` and Optuna's own signatures;
tests/docs/test_study_file.py fails when the file is not what this would write.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import optuna
import yaml

from study import check, plugins, pruners, samplers
from study.commands import LIVE
from study.spec import StudySpec
from trainer import data, problems
from trainer.config import TrainerConfig

PAGE = Path(__file__).with_suffix(".md")


def _listed(keys: Iterable[str]) -> str:
    *others, last = (f"`{key}`" for key in keys)
    return f"{', '.join(others)} and {last}"


def _alternatives(keys: Iterable[str]) -> str:
    return " or ".join(f"`{key}`" for key in keys)


INTRODUCTION = f"""# The study file

<!-- Written by docs/study_file.py from the models; edit those, then run `make docs`. -->

A study is one YAML file. `name` and `space` are all that it must say:

```yaml
name: half_life
space:
  fipo.half_life: {{type: log-uniform, low: 4, high: 256}}
trainer:
  optimizer: {{learning_rate: 3.0e-5}}
```

- A value comes from the default below, then from `trainer`, then from `space`, then from `--set KEY=VALUE`; the last
  one counts.
- `space`, the `values` of `enqueue` and `--set` name trainer keys with dots (`fipo.half_life`); under `trainer` they
  are nested. A trainer key that is given with `--set` is no longer sampled.
- `--set` takes keys of the study too: `trials=8`, `pruner.name=none`, `budget.hours=2`. `seed` is a key of both:
  `--set seed=1` is that of the study, `--set trainer.seed=1` that of training.
- {_listed(check._SHARED)} cannot be swept: trials are compared at equal steps on the same draws. Neither can `seed`,
  whose highest run is luck: `replicas` repeats configurations with others.
- {_listed(LIVE)} can change while a study runs (the last two for its next resume): `fipo set`, `fipo add`.
- A key that is not known, a value outside its range and a combination that cannot be trained are refused in one line
  each before anything starts. `fipo validate FILE` tells them all, stage by stage, since what follows would be misled:
  the form of every key, then the values at the ends of `space` as the trainer takes them, then what does not go
  together, the controls and the files that are not there. Mend what it tells and run it again.
- The study with all its defaults is written to `study.yaml` in its directory.
- Problems come from files of your own, too: [problem files](#problem-files).
"""

PROBLEM_FILES = f"""## Problem files

`data.train` and the `path` of an evaluation set are read alike: JSONL (an object a line), JSON (an array of objects),
CSV or parquet, one problem a row, for example

```jsonl
{{"problem": "What is $3 + 4 \\\\cdot 5$?", "answer": "23"}}
{{"problem": "How many primes are below 100?", "answer": 25}}
```

- The text stands in {_alternatives(data.TEXT_COLUMNS)}, the answer in {_alternatives(data.ANSWER_COLUMNS)}, as
  text or a number; capitals do not matter, other columns are not read. `data.template` goes around the text.
- verl's schema is read as well: `prompt` with one message, `[{{"role": "user", "content": ...}}]`, which is the whole
  prompt without a template, and `reward_model` with `ground_truth`. A `prompt` that is text is a problem.
- A problem that occurs twice counts once. A set whose name begins with aime takes answers from 0 to 999 only.
- The generated sets, `embedded:train`, `embedded:select` and `embedded:report`, are sums of three to six two-digit
  numbers in the form `{problems.sum_prompt((47, 38, 59))}`.
"""


DISTRIBUTIONS = {"uniform": "Uniform", "log-uniform": "LogUniform", "int": "Int", "choice, grid": "Choice"}
ELSEWHERE = {"space": "distributions", "sampler": "samplers", "pruner": "pruners", "trainer": "trainer"}
"""Keys of the study whose content has a heading of its own."""
WORDS = {"number": "number", "integer": "whole number", "boolean": "true or false", "string": "text", "null": "null"}
BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


def page() -> str:
    """The text of docs/study_file.md."""
    study, trainer = StudySpec.model_json_schema(), TrainerConfig.model_json_schema()
    parts = [INTRODUCTION, "## Study\n", *_tables(study, study["$defs"])]
    parts += ["## Distributions\n", "What `space` maps a trainer key to: `{type: TYPE, ...}`.\n"]
    for types, name in DISTRIBUTIONS.items():
        schema = study["$defs"][name]
        del schema["properties"]["type"]
        parts += [f"### type: {types}\n", f"{schema['description']}\n", _table(schema, "")]
    parts += ["## Samplers\n", "`sampler: {name: NAME, OPTION: VALUE, ...}`. They and their options are Optuna's.\n"]
    parts.append(_plugins({name: getattr(optuna.samplers, each) for name, each in samplers.NAMES.items()}))
    parts.append("## Pruners\n")
    ours = ", ".join(f"`{name}` (`{each.replace('.', '/')}.py`)" for name, (each, _) in pruners.OWN.items())
    parts.append(
        f"`pruner: {{name: NAME, OPTION: VALUE, ...}}`, Optuna's but for {ours}. Steps are\n"
        "training steps. `patient` also takes `wrapped_pruner: {name: NAME, OPTION: VALUE, ...}`.\n"
    )
    classes = {name: pruners.pruner_class(name) for name in (*pruners.NAMES, *pruners.OWN)}
    parts.append(_plugins(classes))
    for name in pruners.OWN:
        parts += [f"### pruner: {name}\n", _explained(classes[name])]
    parts += ["## Trainer\n", f"{trainer['description']} A file of these keys alone is run by `fipo train FILE`.\n"]
    parts += [*_tables(trainer, trainer["$defs"]), PROBLEM_FILES]
    return "\n".join(parts)


def _tables(schema: dict[str, Any], models: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The table of a model, then those of the models in it, each under its key."""
    yield _table(schema, prefix)
    for key, field in schema["properties"].items():
        name, path = _model(field), prefix + key
        if name is None or key in ELSEWHERE:
            continue
        yield f"### {path}\n"
        if text := models[name].get("description"):
            yield f"{text}\n"
        yield from _tables(models[name], models, f"{path}[]." if "items" in field else f"{path}.")


def _model(field: dict[str, Any]) -> str | None:
    """The name of the model that a field holds, or holds a list of; None for any other field."""
    for each in (field, field.get("items", {}), *field.get("anyOf", ())):
        if "$ref" in each:
            return each["$ref"].rpartition("/")[2]
    return None


def _table(schema: dict[str, Any], prefix: str) -> str:
    rows = ["| key | value | default | |", "|---|---|---|---|"]
    for key, field in schema["properties"].items():
        inside = ELSEWHERE.get(key, f"{prefix}{key}" if _model(field) else None)
        text = " ".join(field.get("description", "").split())
        if not (text or inside):
            raise SystemExit(
                f"{prefix}{key}: has no docstring; write what it is, its unit and its source below the field"
            )
        if inside:
            slug = "".join(each for each in inside if each not in ".[]")  # as GitHub makes it from the heading
            text = f"{text} See [{inside}](#{slug}).".strip()
        cells = [f"`{prefix}{key}`", _type(field), _default(schema, key), text]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _default(schema: dict[str, Any], key: str) -> str:
    field = schema["properties"][key]
    if key in schema.get("required", ()):
        return "required"
    if _model(field) and field.get("default") != [] and field.get("default", {}) is not None and key not in ELSEWHERE:
        return ""  # its own table tells
    return f"`{_yaml(field.get('default', {}))}`"


def _yaml(value: object) -> str:
    """As it would be written in a study file."""
    return yaml.safe_dump(value, default_flow_style=True).partition("\n")[0]


def _type(field: dict[str, Any]) -> str:
    """What may be written, in words, with its range."""
    if "anyOf" in field:
        *others, last = dict.fromkeys(_type(each) for each in field["anyOf"])
        return f"{' or '.join(others)}, or null" if last == "null" else " or ".join([*others, last])
    if "enum" in field:
        return " or ".join(f"`{each}`" for each in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "items" in field:
        inner = _type(field["items"])
        return f"list{'' if inner == 'mapping' else f' of {inner}'}"
    limits = " and ".join(f"{sign} {_short(field[name])}" for name, sign in BOUNDS.items() if name in field)
    pattern = f"that matches `{field['pattern']}`" if "pattern" in field else ""
    return " ".join(filter(None, [WORDS.get(field.get("type", ""), "mapping"), limits, pattern]))


def _short(limit: float) -> str:
    return str(int(limit)) if limit == int(limit) else str(limit)


def _plugins(classes: dict[str, type]) -> str:
    rows = ["| name | class | options and their defaults |", "|---|---|---|"]
    for name, cls in classes.items():
        options = [
            f"`{key}`, required" if each.default is each.empty else f"`{key}: {_yaml(each.default)}`"
            for key, each in plugins.known_options(cls).items()
        ]
        rows.append(f"| `{name}` | {cls.__name__} | {', '.join(options) or 'none'} |")
    return "\n".join(rows) + "\n"


def _explained(cls: type) -> str:
    """The options of a class of ours with their defaults, in the words of its docstring, which has to name each."""
    arguments = inspect.cleandoc(cls.__doc__ or "").partition("Args:\n")[2].partition("\nRaises:")[0]
    texts = dict(re.findall(r"(?ms)^    (\w+): (.*?)(?=\n    \w|\Z)", arguments))
    known = plugins.known_options(cls)
    if missing := known.keys() - texts.keys():
        raise ValueError(f"the docstring of {cls.__name__} has no line under Args for {', '.join(sorted(missing))}")
    rows = [f"| `{key}` | `{_yaml(each.default)}` | {' '.join(texts[key].split())} |" for key, each in known.items()]
    return "\n".join(["| option | default | |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
