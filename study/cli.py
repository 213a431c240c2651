"""The command line `fipo`. Bad input is one line on stderr and exit code 2; Ctrl-C is exit code 130."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from study.cli_live import Study, add_commands
from study.output import console, say
from trainer.errors import TrainingDiverged, UserError

if TYPE_CHECKING:
    from study.display import Display
    from study.results import StudyResults

app = typer.Typer(
    name="fipo",
    help="Hyperparameter studies for FIPO: launch sweeps, browse the dashboard, export the best config.",
    epilog="Start here: fipo launch   then: fipo dashboard   and: fipo export studies/tiny",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
SETS_HELP = "Fix a value, for example trials=8 or fipo.half_life=32; repeatable."
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=SETS_HELP)]


@app.command(epilog="Example: fipo launch search_spaces/tiny.yaml --out studies/try --set optimizer.learning_rate=3e-4")
def launch(
    spec: Annotated[Path | None, typer.Argument(help="Study spec (YAML). Default: the built-in tiny study.")] = None,
    out: Annotated[Path | None, typer.Option(help="Study directory. Default: next free ./studies/NAME.")] = None,
    trials: Annotated[int | None, typer.Option(help="Number of trials, in place of the spec's.")] = None,
    again: Annotated[bool, typer.Option("--resume", help="Go on with it where it is in --out, or ./studies.")] = False,
    sets: Set = None,
) -> None:
    """Run a study: sample, train, prune, and keep the best."""
    from study.check import load_spec
    from study.directory import DEFAULT_PARENT, free_directory
    from study.launch import launch
    from study.spec import StudySpec
    from study.tables import beside_space

    assignments = [*(sets or []), *([f"trials={trials}"] if trials is not None else [])]
    if spec is None:
        with as_file(files("search_spaces") / "tiny.yaml") as path:
            checked = load_spec(path, sets=assignments)
    else:
        checked = load_spec(spec, sets=assignments)
    named = DEFAULT_PARENT / checked.name
    directory = out or (named if again and (named / "study.yaml").exists() else free_directory(checked.name))
    if out is None and directory.name != checked.name:
        _complain(f"{named} is there already, so this one is {directory}; to go on with that one: fipo resume {named}")
    if again and (directory / "study.yaml").exists():
        if differing := checked.differing(StudySpec.from_file(directory / "study.yaml")):
            _complain(f"{directory}: goes on as its study.yaml says; what is given differs in {', '.join(differing)}")
        resume(directory)
        return
    for control in checked.enqueue:
        if beside := beside_space(checked.beside_space(control.values)):
            typer.echo(f"Control {control.label}, {beside}")
    _watched(directory, lambda display: launch(checked, directory, display))


@app.command(epilog="Example: fipo resume studies/tiny")
def resume(directory: Study = None) -> None:
    """Go on with a study that was stopped or died: running trials from their checkpoints, finished ones not again."""
    from study.launch import resume
    from study.results import find_study

    found = find_study(directory)
    _watched(found, lambda display: resume(found, display))


@app.command(epilog="Example: fipo status studies/tiny --json")
def status(
    directory: Study = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Show a study's trials, also while it runs."""
    from study.results import find_study, read_study

    results = read_study(find_study(directory))
    if as_json:
        from study.tables import as_json as text

        typer.echo(text(results))
        return
    from study.backup import how_to_go_on
    from study.costs import costs
    from study.tables import beside_space, counts, named, trial_table
    from study.time_left import time_left
    from study.verdict import failed_controls, verdict

    console = _console()
    typer.echo(f"Study {results.spec.name} in {results.directory}")
    console.print(trial_table(results, results.trials, console))
    left, on = time_left(results), how_to_go_on(results)
    so_far = counts(results) + (f", {left}" if left is not None else "")
    for line in (so_far, *on, *failed_controls(results), results.waits, costs(results), *verdict(results)):
        if line is not None:
            typer.echo(line)
    for trial in results.trials:
        if trial.fail_reason:
            typer.echo(f"trial {trial.number} failed: {trial.fail_reason}")
        if trial.stop_reason:
            typer.echo(f"trial {trial.number} ended early, not by the pruner: {trial.stop_reason}")
        if trial.beside and trial.confirms is None:
            typer.echo(f"{named(trial)}, {beside_space(trial.beside)}")


@app.command(epilog="Example: fipo validate my_study.yaml")
def validate(specs: Annotated[list[Path], typer.Argument(help="Study specs (YAML).")], sets: Set = None) -> None:
    """Check study specs and the local files that they name, without running anything: in stages, a line a mistake."""
    from study.check import load_with_files
    from study.mistakes import SpecRefused
    from study.plan import plan
    from study.settings import hardly_meant

    refused = False
    for path in specs:
        try:
            checked, odd_files = load_with_files(path, sets=sets or [])
        except UserError as error:
            for line in error.lines if isinstance(error, SpecRefused) else [str(error)]:
                _complain(line)
            refused = True
            continue
        typer.echo(f"{path}: {plan(checked)}")
        for line in (*hardly_meant(checked), *odd_files):
            _warn(f"{path}: {line}")
    if refused:
        raise typer.Exit(2)


@app.command(epilog="Example: fipo export studies/tiny --to verl --preset qwen2.5_32b --approximate")
def export(
    directory: Study = None,
    to: Annotated[str, typer.Option(help="yaml, verl, ms-swift, slime, trl, hf, json, csv or report.")] = "yaml",
    trial: Annotated[int | None, typer.Option(help="Trial number. Default: the best complete trial.")] = None,
    top: Annotated[int | None, typer.Option(help="The N best configurations, controls too.")] = None,
    pareto: Annotated[bool, typer.Option("--pareto", help="The front of accuracy and length.")] = False,
    out: Annotated[Path | None, typer.Option(help="What to write; it must not exist. Default: best.yaml.")] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Take the nearest where the target cannot say it; the file tells.")
    ] = False,
    preset: Annotated[str | None, typer.Option(help="Scale of a real run, for example qwen2.5_32b.")] = None,
) -> None:
    """Write what a study found: a config or launch script, the trained policy, tables or a report."""
    from study.export import prepare, summary, write
    from study.results import find_study, read_study

    results = read_study(find_study(directory))
    exports = prepare(
        results, to, number=trial, top=top, pareto=pareto, out=out, approximate=approximate, preset=preset
    )
    write(results, exports)
    for line in summary(results, exports):
        typer.echo(line)


@app.command(name="import", epilog="Example: fipo import run_fipo_qwen2.5_32b.sh --out base.yaml")
def import_(
    script: Annotated[Path, typer.Argument(help="Launch script of verl (Hydra overrides). It is read, not run.")],
    source: Annotated[str, typer.Option("--from", help="What the file is; verl-script is known.")] = "verl-script",
    out: Annotated[Path, typer.Option(help="File to write; it must not exist.")] = Path("imported.yaml"),
) -> None:
    """Turn the launch script of another trainer into a config to start a study from."""
    from study.importer import import_script

    imported = import_script(script, source=source, out=out)
    typer.echo(f"{out}: {len(imported.unread)} keys of {script} have no counterpart; they are listed at its top")
    for line in imported.different:
        typer.echo(f"Different: {line}")
    typer.echo(f"Train it: fipo train {shlex.quote(str(out))}   or put it under trainer in a study spec")


@app.command(epilog="Example: fipo train best.yaml --out runs/best")
def train(
    config: Annotated[Path, typer.Argument(help="Trainer config (YAML), for example from fipo export.")],
    out: Annotated[Path | None, typer.Option(help="Run directory. Default: ./runs/NAME, the next free one.")] = None,
) -> None:
    """Train one config in this process, without Ray or Optuna."""
    from study.directory import free_directory
    from study.single import DEFAULT_PARENT, run

    directory = out or free_directory(config.stem, DEFAULT_PARENT)
    with _stoppable(directory, f"what was finished is kept in {directory}"):
        for line in run(config, directory):
            typer.echo(line)


@app.command(
    name="eval",
    epilog="Example: fipo eval Qwen/Qwen2.5-Math-7B --data aime=aime_2024.jsonl --template answer --max-tokens 3072",
)
def evaluate(
    model: Annotated[str, typer.Argument(help="Directory or hub name; embedded is the tiny base model.")],
    data: Annotated[list[str], typer.Option(metavar="NAME=PATH", help="A set: local file or hub name; repeatable.")],
    samples: Annotated[int, typer.Option(help="k, responses per problem.")] = 32,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling.")] = 0.7,
    max_tokens: Annotated[int, typer.Option(help="Longest response.")] = 64,
    template: Annotated[str, typer.Option(help="What is asked around a problem: plain, boxed or answer.")] = "plain",
    chat: Annotated[bool, typer.Option(help="Put prompts into the tokenizer's chat format.")] = False,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
) -> None:
    """Score a model: avg@k with both errors, cons@k and pass@k. Drawn anew: a trial's score recurs within errors."""
    from study.single import evaluation_table

    options: dict[str, object] = {
        "evaluation.temperature": temperature,
        "evaluation.top_p": top_p,
        "rollout.max_response_length": max_tokens,
        "data.template": template,
        "data.chat": chat,
        "model.dtype": dtype,
    }
    table = evaluation_table(
        model, data, samples=samples, options=options, tell=lambda line: typer.echo(line, err=True)
    )
    _console().print(table)


PLACES_HELP = "Studies, directories of studies, or URLs of Optuna storages; several of them. Default: ./studies."


@app.command(epilog="Example: fipo dashboard studies/tiny studies/other --port 8600")
def dashboard(
    places: Annotated[list[str] | None, typer.Argument(metavar="PLACE...", help=PLACES_HELP)] = None,
    host: Annotated[str, typer.Option(help="Address to listen on. The default is this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8501,
) -> None:
    """Browse studies in the web browser, also while they run. Ctrl-C ends it."""
    # -P: what lies in the directory where the user stands must not be taken for a library.
    command = [sys.executable, "-P", "-m", "dashboards.serve", "--host", host, "--port", str(port), "--"]
    os.execv(sys.executable, [*command, *(places or [])])  # one process: a signal to it reaches the server


add_commands(app)


def main() -> None:
    """Entry point: every expected end is one line and an exit code."""
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # what the hub tries again is told in the error at the end
    try:
        app()
    except (UserError, TrainingDiverged) as error:
        _complain(str(error))
        sys.exit(2 if isinstance(error, UserError) else 1)


def _watched(directory: Path, run: Callable[[Display], StudyResults]) -> None:
    """Run a study with a display, and say how it ended."""
    from study.directory import typed
    from study.display import Display, conclusion
    from study.signals import terminated_as_interrupt

    output = console(sys.stdout)  # of now: what Ray and the trials print goes to the study's driver.log
    display = Display(output, console(sys.stderr))
    with _stoppable(directory, f"go on with: {typed('resume', directory)}"):
        try:
            with terminated_as_interrupt():
                results = run(display)
        finally:
            display.close()
    for line in conclusion(results, directory):
        say(output, line)
    if results.trials and all(trial.state == "FAIL" for trial in results.trials):
        raise typer.Exit(1)


@contextlib.contextmanager
def _stoppable(directory: Path, how: str) -> Iterator[None]:
    """Ctrl-C ends a long command with a word on `how` to go on where something was begun, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        _complain(f"Interrupted; {how if directory.exists() else 'nothing had been started'}")
        raise typer.Exit(130) from None


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)


def _complain(line: str, style: str = "red") -> None:
    say(console(sys.stderr), line, style)


def _warn(line: str) -> None:
    """What is allowed, and hardly meant."""
    _complain(f"Warning: {line}", "yellow")
