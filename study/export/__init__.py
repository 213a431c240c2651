"""Export: what a study found, for this trainer, for the trainers people run at scale, and for reading.

    fipo export STUDY --to TARGET

and the same from Python:

    results = read_study(Path("studies/tiny"))
    write(results, prepare(results, "verl", preset="qwen2.5_32b", approximate=True))

Every file begins with where it comes from and how sure its numbers are. What a target cannot say is refused, or with
`--approximate` replaced by the nearest it can say, which is then written at the top.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from study.directory import require_free_path, write_or_refuse
from study.evidence import SeedMean
from study.export import hf, ms_swift, report, slime, tables, trainer_yaml, trl, verl
from study.export.choice import choose_trials
from study.export.gaps import Gap, settle
from study.export.provenance import differences, provenance
from study.export.recipe import Recipe, make_recipe
from study.results import StudyResults, TrialResult
from study.tables import accuracy, counts, named
from trainer.errors import UserError
from trainer.records import appearing


@dataclass(frozen=True)
class Target:
    """One kind of file that a study can be exported as."""

    title: str
    suffix: str
    """How its default file name ends."""
    then: str = ""
    """What to do with the file, its path in the place of {}."""
    render: Callable[[Recipe, Iterable[str]], tuple[str, list[Gap]]] | None = None
    """For another trainer: the file's text below a header, and what it does not say exactly."""
    whole_study: bool = False
    """It has all trials, not one."""


TARGETS = {
    "yaml": Target("this trainer (YAML)", ".yaml", "Train it again: fipo train {}"),
    "verl": Target(
        "verl, FIPO authors' fork",
        ".verl.sh",
        "Run it in the root of the FIPO authors' fork of verl: bash {}",
        verl.render,
    ),
    "ms-swift": Target("ms-swift", ".ms-swift.sh", "Run it where ms-swift is installed: bash {}", ms_swift.render),
    "slime": Target(
        "slime", ".slime.sh", "Run it in the root of slime, which needs its pull request 1801: bash {}", slime.render
    ),
    "trl": Target("TRL (DAPO only)", ".trl.yaml", render=trl.render),
    "hf": Target("trained weights, Hugging Face format", "-hf", "Score it: fipo eval {} --data NAME=PATH"),
    "json": Target("all trials, JSON", ".json", whole_study=True),
    "csv": Target("all trials, CSV", ".csv", whole_study=True),
    "report": Target("report, one HTML file", ".html", "Open it in any browser: {}"),
}
TRAINERS = {name: target.render for name, target in TARGETS.items() if target.render is not None}


@dataclass(frozen=True)
class Export:
    """One file or directory to write; nothing has been written yet."""

    path: Path
    trial: TrialResult | None
    """None for a whole study."""
    target: str
    text: str | None
    """None for a directory (`hf`)."""
    gaps: tuple[Gap, ...] = ()
    """What was approximated."""
    elsewhere: tuple[str, ...] = ()
    """How far it is from where its values were found."""
    then: str = ""
    """What to do with it, where that is not what its target says."""


def prepare(
    results: StudyResults,
    target: str = "yaml",
    *,
    number: int | None = None,
    top: int | None = None,
    pareto: bool = False,
    out: Path | None = None,
    approximate: bool = False,
    preset: str | None = None,
) -> list[Export]:
    """Everything that `target` needs, as text in memory, so that a refusal leaves nothing behind.

    Args:
        number, top, pareto: which trials, see `choose_trials`. Several give a directory with a file for each.
        out: the file (or directory); without it best.SUFFIX, or best-TARGET for several trials.
        approximate: take the nearest expressible choice where the target cannot say what the trial did.
        preset: take model, data, lengths, batches and optimizer of a trainer preset, the fipo part of the trial.
    Raises:
        UserError: unknown target, no such trial, something that cannot be said, or `out` cannot be used.
    """
    if target not in TARGETS:
        raise UserError(f"--to {target}: no such target; known: {', '.join(TARGETS)}")
    if preset is not None and target not in ("yaml", *TRAINERS):
        raise UserError(f"--preset {preset}: {target} tells what was run; leave --preset away")
    suffix = TARGETS[target].suffix
    if TARGETS[target].whole_study:
        if number is not None or top is not None or pareto:
            raise UserError(f"--to {target} has all trials; leave --trial, --top and --pareto away")
        path = _free(out or Path(f"trials{suffix}"))
        return [Export(path, None, target, tables.as_json(results) if target == "json" else tables.as_csv(results))]
    trials = choose_trials(results, number=number, top=top, pareto=pareto)
    several = top is not None or pareto
    if several:
        if out is not None and out.suffix in {Path(each.suffix).suffix for each in TARGETS.values()} - {""}:
            raise UserError(
                f"--out {out}: several trials make a directory with a file each; give a name without {out.suffix}"
            )
        directory = _free(out or Path(f"best-{target}"))
        paths = [directory / f"trial-{trial.number:04d}{suffix}" for trial in trials]
    else:
        paths = [_free(out or Path(f"{'report' if target == 'report' else 'best'}{suffix}"))]
    return [
        _prepared(results, trial, path, target, approximate=approximate, preset=preset)
        for trial, path in zip(trials, paths, strict=True)
    ]


def write(results: StudyResults, exports: list[Export]) -> None:
    """Write what `prepare` gave, all of it or nothing. Raises UserError when it cannot be."""
    directory = exports[0].path.parent
    if len(exports) == 1 and directory.exists():
        _write_one(results, exports[0], exports[0].path)
        return
    try:  # the directory for several appears with everything in it
        with appearing(directory) as partial:
            for export in exports:
                _write_one(results, export, partial / export.path.name)
    except OSError as error:
        raise UserError(f"--out {directory}: cannot be made ({error.strerror}); choose another place") from None


def _write_one(results: StudyResults, export: Export, path: Path) -> None:
    if export.text is None:
        assert export.trial is not None
        hf.write_policy(results, export.trial, path)
        return
    write_or_refuse(path, export.text)
    if export.text.startswith("#!"):
        path.chmod(0o755)


def summary(results: StudyResults, exports: list[Export]) -> Iterator[str]:
    """What was written, with its score, what was approximated and what to do next, line by line."""
    confirmed = {each.number: each for each in results.evidence if each.fresh}
    for export in exports:
        if export.trial is None:
            yield f"{export.path}: {counts(results)}"
            continue
        score = accuracy(results.spec, export.trial) or "not evaluated yet"
        again = confirmed.get(export.trial.number)
        mean = f"; over {again.seeds} {SeedMean.of(again.fresh)}" if again is not None else ""
        yield f"{export.path}: {named(export.trial)}, {results.metric_name} {score}{mean}"
        for gap in export.gaps:
            yield f"  approximated {gap.ours}: {gap.taken}"
        if export.gaps:
            yield "  the accuracy above is the trial's; a run of this file trains in another way"
        yield from (f"  {line}" for line in export.elsewhere)
    if then := exports[0].then or TARGETS[exports[0].target].then:
        yield then.format(shlex.quote(str(exports[0].path)))


def _prepared(
    results: StudyResults, trial: TrialResult, path: Path, target: str, *, approximate: bool, preset: str | None
) -> Export:
    if target == "hf":
        hf.newest_checkpoint(results, trial)
        return Export(path, trial, target, None)
    if target == "report":
        return Export(path, trial, target, report.report(results, trial))
    recipe = make_recipe(results, trial, preset=preset)
    if target == "yaml":
        text = trainer_yaml.render(recipe, provenance(results, trial) + list(recipe.notes))
        then = f"Train it again: {recipe.command} {{}}"
        return Export(path, trial, target, text, elsewhere=recipe.elsewhere, then=then)
    _, gaps = TRAINERS[target](recipe, ())
    settle(gaps, target=target, approximate=approximate)
    header = provenance(results, trial) + differences(gaps, recipe.notes, target)
    text, gaps = TRAINERS[target](recipe, header)
    then = f"Run it where TRL is installed: {trl.command(recipe)}" if target == "trl" else ""
    return Export(path, trial, target, text, tuple(gaps), recipe.elsewhere, then)


def _free(out: Path) -> Path:
    """`out` if it can be made. Raises UserError."""
    require_free_path(out, default=False)
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: the directory {out.parent} does not exist; make it, or choose another place")
    return out
