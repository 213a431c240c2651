"""The commands of `fipo` that reach into a study, running or not: stop, add, enqueue, set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from study.commands import Add, Change, Enqueue, Stop

Study = Annotated[Path | None, typer.Argument(help="Study directory. Default: the newest under ./studies.")]
Of = Annotated[Path, typer.Argument(metavar="DIR", help="Study directory.")]
Values = Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="Keys and their values.")]


def add_commands(app: typer.Typer) -> None:
    """Give `app` the commands of this file."""
    app.command(epilog="Example: fipo stop studies/tiny --trial 7")(stop)
    app.command(epilog="Example: fipo add studies/tiny --trials 8")(add)
    app.command(epilog="Example: fipo enqueue studies/tiny fipo.half_life=128 fipo.epsilon_f_high=0.4")(enqueue)
    app.command(name="set", epilog="Example: fipo set studies/tiny concurrency=4 budget.hours=2")(set_)


def stop(
    directory: Study = None,
    trial: Annotated[int | None, typer.Option(help="Only this trial; it counts as PRUNED.")] = None,
) -> None:
    """Stop a running study, to be resumed later, or one of its trials for good."""
    from study.commands import Stop

    _send(directory, Stop(trial=trial))


def add(trials: Annotated[int, typer.Option(min=1, help="How many more.")], directory: Study = None) -> None:
    """Run more trials than the study planned."""
    from study.commands import Add

    _send(directory, Add(trials=trials))


def enqueue(
    directory: Of,
    values: Values,
    label: Annotated[str, typer.Option(help="Names the trial in tables and charts.")] = "by hand",
) -> None:
    """Run one more trial with given values; keys of the space that are left out are sampled."""
    from study.commands import Enqueue

    _send(directory, Enqueue(label=label, values=_parsed(values)))


def set_(directory: Of, values: Values) -> None:
    """Change what may change: trials, concurrency, budget, notify, replicas; for the next resume resources.ray_address
    and resources.retries."""
    from study.commands import Change

    _send(directory, Change(values=_parsed(values)))


def _parsed(values: list[str]) -> dict[str, Any]:
    from study.overrides import assignment

    return dict(assignment(each, "fipo") for each in values)


def _send(directory: Path | None, command: Stop | Change | Add | Enqueue) -> None:
    from study.commands import send
    from study.results import find_study

    typer.echo(send(find_study(directory), command))
