"""Record the argument schemas that exported files are tested against, from the trainers themselves.

    python record_schemas.py verl CHECKOUT         of github.com/qwenpilot/FIPO, needs hydra-core and this project
    python record_schemas.py slime CHECKOUT        of github.com/THUDM/slime with FIPO, refs/pull/1801/merge
    python record_schemas.py ms-swift              in an environment with ms-swift installed

Writes NAME.schema.json beside this file: names and types only, with the commit or version they were read from.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCES = {
    "verl": "https://github.com/qwenpilot/FIPO",
    "slime": "https://github.com/THUDM/slime, refs/pull/1801/merge",
    "ms-swift": "https://pypi.org/project/ms-swift",
}


def verl(checkout: Path) -> dict[str, Any]:
    """Keys and types of the config that the fork's `recipe.dapo.main_dapo` composes, and values that are imported."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from study.importer import FIXED, READ

    search = f"hydra.searchpath=[file://{checkout / 'verl/trainer/config'}]"
    with initialize_config_dir(str(checkout / "recipe/dapo/config"), version_base=None):
        config = compose("dapo_trainer", overrides=[search])
    found = {key: OmegaConf.select(config, key) for key in READ | FIXED}
    defaults = {key: value for key, value in found.items() if value is not None}
    for node in ast.walk(ast.parse((checkout / "verl/workers/config/actor.py").read_text())):
        if isinstance(node, ast.ClassDef) and node.name == "PolicyLossConfig":  # its YAML does not have them
            fields = {each.target.id: each.value for each in node.body if isinstance(each, ast.AnnAssign)}
            prefix = "actor_rollout_ref.actor.policy_loss."
            for key in ("decay_rate", "safety_thresh", "future_kl_clip_ratio", "future_kl_clip_high_only"):
                defaults[prefix + key] = ast.literal_eval(fields[key])
    types = _types(OmegaConf.to_container(config, resolve=False))
    made = set(re.findall(r"'_target_': '[\w.]+\.(\w+)'", str(types)))
    dataclasses = _dataclasses(checkout, made)
    return {"commit": _commit(checkout), "config": types, "dataclasses": dataclasses, "defaults": defaults}


def slime(checkout: Path) -> dict[str, Any]:
    """Options of slime's own argument file, and those of Megatron that its scripts use and its training code reads."""
    options: dict[str, Any] = {}
    for call in ast.walk(ast.parse((checkout / "slime/utils/arguments.py").read_text())):
        if not isinstance(call, ast.Call):
            continue
        constants = [str(each.value) for each in call.args if isinstance(each, ast.Constant)]
        names = [each for each in constants if each.startswith("--")]
        if names:
            words = {each.arg: ast.unparse(each.value) for each in call.keywords}
            choices = ast.literal_eval(words["choices"]) if "choices" in words else None
            options[names[0]] = {
                "type": words.get("type"), "choices": choices, "flag": "store_true" in words.get("action", ""),
                "many": "nargs" in words,
            }  # fmt: skip
    scripts = [*checkout.glob("scripts/**/*.sh"), *checkout.glob("examples/**/*.sh"), *checkout.glob("tests/**/*.py")]
    used = {name for path in scripts for name in re.findall(r"(?m)(?<=\s)--[a-z][a-z0-9-]+", path.read_text())}
    code = "".join(path.read_text() for path in (checkout / "slime/backends/megatron_utils").glob("*.py"))
    used |= {"--" + name.replace("_", "-") for name in re.findall(r"\bargs\.([a-z][a-z0-9_]+)", code)}
    return {"commit": _commit(checkout), "options": options, "megatron": sorted(used - options.keys())}


def ms_swift() -> dict[str, Any]:
    """Options of `swift rlhf`, read from the parser that it makes of its own argument class."""
    from importlib.metadata import version

    from swift.arguments import RLHFArguments
    from transformers import HfArgumentParser

    options = {
        action.option_strings[0]: {
            "type": getattr(action.type, "__name__", None),
            "choices": list(action.choices) if action.choices else None,
            "many": action.nargs in ("+", "*"),
            "flag": action.nargs == 0,
        }
        for action in HfArgumentParser(RLHFArguments)._actions
        if action.option_strings
    }
    return {"version": version("ms-swift"), "options": options}


def _dataclasses(checkout: Path, made: set[str]) -> dict[str, list[str]]:
    """Fields of the classes that Hydra makes of a `_target_` when a run starts; any other key ends it."""
    found: dict[str, ast.ClassDef] = {}
    for path in sorted([*checkout.glob("verl/workers/config/*.py"), *checkout.glob("verl/trainer/config/*.py")]):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, node)

    def fields(name: str) -> set[str]:
        if name not in found:
            return set()
        own = {str(each.target.id) for each in found[name].body if isinstance(each, ast.AnnAssign)}
        return own.union(*(fields(each.id) for each in found[name].bases if isinstance(each, ast.Name)))

    return {name: sorted(fields(name)) for name in sorted(made & found.keys())}


def _types(value: Any) -> Any:
    if isinstance(value, dict) and value:
        return {key: each if key == "_target_" else _types(each) for key, each in value.items()}
    if isinstance(value, str) and value.startswith("${"):
        return "reference"
    return type(value).__name__


def _commit(checkout: Path) -> str:
    done = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    schema = {"verl": verl, "slime": slime, "ms-swift": ms_swift}[name](*(Path(each).resolve() for each in rest))
    schema |= {"recorded_by": f"record_schemas.py {name}", "source": SOURCES[name]}
    (HERE / f"{name}.schema.json").write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n", encoding="utf-8")
