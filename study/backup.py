"""How a study at rest goes on: with a resume, unless its directory or its storage was restored without the other."""

from __future__ import annotations

from study.backend import place
from study.directory import trial_directory
from study.results import StudyResults, TrialResult
from study.tables import counted, named, undriven
from trainer.errors import UserError

_BOTH = "restore both from one backup"
OLDER = f"is older than its storage, as after a restore of it alone; {_BOTH}"
"""Said of a directory."""
_NAMED = 4
"""How many are named of many."""


def require_known(results: StudyResults) -> None:
    """Raise UserError where the storage is older than the directory: a trial would get the number of one that it does
    not know, and go on from that one's checkpoint, with other settings."""
    if (line := older_storage(results)) is not None:
        raise UserError(line)


def how_to_go_on(results: StudyResults) -> list[str]:
    """What a study has to say that no one drives: `undriven`, or why a resume would be refused, and whether its
    directory is older than its storage. Nothing while it is driven, when the two are read one after the other."""
    if results.driver is not None:
        return []
    found = (older_storage(results) or undriven(results), older_directory(results))
    return [line for line in found if line is not None]


def older_storage(results: StudyResults) -> str | None:
    """That there are runs which the storage does not know; None where it knows all. Of a study at rest."""
    begun = {trial_directory(trial.number).name for trial in results.trials if trial.state != "WAITING"}
    trials = results.directory / "trials"
    unknown = sorted(each.name for each in trials.glob("*") if each.name.isdigit() and each.name not in begun)
    if not unknown:
        return None
    return (
        f"{trials}: {_listed(unknown)} {'is' if len(unknown) == 1 else 'are'} of no trial that"
        f" {place(results.spec, results.directory)} knows, which is older, as after a restore of it alone; {_BOTH}, or"
        f" move {'that folder' if len(unknown) == 1 else 'those folders'} away"
    )


def older_directory(results: StudyResults) -> str | None:
    """That trials are COMPLETE whose folder does not reach their last step; None where there are none."""
    behind = [trial for trial in results.trials if trial.state == "COMPLETE" and _reached(trial) < results.spec.steps]
    if not behind:
        return None
    first = behind[0]
    ends = f"its folder ends at step {_reached(first)} of {results.spec.steps}"
    what = ends if first.evaluations else "its folder holds no evaluation"
    more = f" (and {counted(len(behind) - 1, 'other')})" if len(behind) > 1 else ""
    return f"{named(first)[0].upper()}{named(first)[1:]} is COMPLETE, and {what}{more}: {results.directory} {OLDER}"


def _reached(trial: TrialResult) -> int:
    """The step of its newest evaluation."""
    return trial.evaluations[-1].step if trial.evaluations else 0


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
