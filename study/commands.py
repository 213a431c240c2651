"""Commands to a study, carried out by its driver while it runs, and at once when no one drives it.

A command is a file in `commands/` of the study directory, so it works wherever that directory is seen.
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from study.directory import typed
from study.lock import driven, driver, driver_lock
from study.mistakes import explained, flow
from study.space import Value
from study.spec import Control, StudySpec, set_dotted
from trainer.config import Frozen
from trainer.errors import UserError, root_line
from trainer.records import write_atomic

if TYPE_CHECKING:
    from study.bridge import Bridge

LATER = ("resources.ray_address", "resources.retries")
"""Keys of a spec that its next driver reads, as after a move to another cluster."""
LIVE = ("trials", "concurrency", "budget", "notify", "replicas", *LATER)
"""Keys of a spec that may change once the study has begun: none of them makes trials incomparable."""
_PATIENCE_SECONDS = 30.0


class Stop(Frozen):
    """End one trial as PRUNED where it stands, or stop the study so that it can be resumed."""

    kind: Literal["stop"] = "stop"
    trial: int | None = None


class Change(Frozen):
    """Give keys of the spec other values."""

    kind: Literal["change"] = "change"
    values: dict[str, Any]


class Add(Frozen):
    """Run more trials than planned."""

    kind: Literal["add"] = "add"
    trials: int = Field(ge=1)


class Enqueue(Frozen):
    """Run one more trial, with these values; keys of the space that are left out are sampled."""

    kind: Literal["enqueue"] = "enqueue"
    label: str = Field(min_length=1)
    values: dict[str, Value] = Field(min_length=1)


Command = Annotated[Stop | Change | Add | Enqueue, Field(discriminator="kind")]


def send(directory: Path, command: Stop | Change | Add | Enqueue) -> str:
    """Have `command` carried out, by the driver if there is one; returns what was done in a sentence.

    Raises:
        UserError: it cannot be carried out, nothing can be written there, or the driver has not answered yet.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return _left_for_driver(directory, command) if _answers(directory) else _at_once(directory, command)
    except (OSError, SQLAlchemyError, StorageInternalError) as error:
        raise UserError(f"{directory}: {root_line(error)}; mend that, and give the command again") from None


def _left_for_driver(directory: Path, command: Stop | Change | Add | Enqueue) -> str:
    folder = directory / "commands"
    folder.mkdir(exist_ok=True)
    path = folder / f"{time.time_ns()}.json"
    write_atomic(path, command.model_dump_json())
    answer = path.with_suffix(".answer")
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if answer.exists():
            told = json.loads(answer.read_text(encoding="utf-8"))
            answer.unlink()
            if "refused" in told:
                raise UserError(told["refused"])
            return str(told["done"])
        if not _answers(directory) and _taken_back(path):  # it ended just now, died or was suspended
            return _at_once(directory, command)
        time.sleep(0.1)
    raise UserError(
        f"{directory}: the driver has not answered in {_PATIENCE_SECONDS:.0f} s (driver.log may tell why); it takes the"
        " command up when it can, and if it ends before, the command is dropped"
    )


def _answers(directory: Path) -> bool:
    holder = driver(directory)
    return holder is not None and not holder.silent


def drop_unanswered(directory: Path) -> list[str]:
    """Forget the commands that an earlier driver has left lying, each told in a line: much may be otherwise by now."""
    lines = []
    for path in sorted((directory / "commands").glob("*.json")):
        given = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
        text = path.read_text(encoding="utf-8")
        path.unlink()
        lines.append(
            f"the command {text}, given at {given:%Y-%m-%d %H:%M:%S}, was answered by no driver and is dropped; give it"
            " again if it is still meant"
        )
    for answer in (directory / "commands").glob("*.answer"):  # whoever asked has not waited for it
        answer.unlink()
    return lines


def answer_all(bridge: Bridge) -> None:
    """Carry out the commands that lie in the study's directory, oldest first."""
    commands: TypeAdapter[Any] = TypeAdapter(Command)
    for path in sorted((bridge.directory / "commands").glob("*.json")):
        try:
            told = {"done": carry_out(bridge, commands.validate_json(path.read_text(encoding="utf-8")))}
        except UserError as error:
            told = {"refused": str(error)}
        except ValidationError as error:  # no command, or one of another version; not worth a study
            told = {"refused": f"{path}: is not a command ({root_line(error)})"}
        path.unlink()  # before the answer: what has been answered is gone
        write_atomic(path.with_suffix(".answer"), json.dumps(told))


def carry_out(bridge: Bridge, command: Stop | Change | Add | Enqueue) -> str:
    """Do what `command` says and return it in a sentence. Raises UserError when it cannot be done."""
    if isinstance(command, Stop):
        return _stop(bridge, command.trial)
    if isinstance(command, Change):
        return _change(bridge, command.values)
    if isinstance(command, Add):
        return _change(bridge, {"trials": max(bridge.spec.trials, bridge.begun) + command.trials})
    from study.check import checked_control
    from study.controls import joins_controls, left_to_sampler
    from study.queue import held_back
    from study.storage import enqueue
    from study.tables import beside_space, counted

    control = checked_control(bridge.spec, command.label, command.values)
    trials = bridge.study.get_trials(deepcopy=False)
    waiting = sum(each.state.name == "WAITING" for each in trials)
    searching = sum(held_back(each, full=True) for each in trials)
    for line in _missing_files(bridge.spec, control):
        raise UserError(line)
    # Where `trials` was lowered, those that it holds back come before this one. It may be refused, so it goes first.
    said = _change(bridge, {"trials": max(bridge.spec.trials, bridge.begun + searching) + 1}, enqueued=1)
    enqueue(bridge.study, bridge.spec, control)
    beside = beside_space(bridge.spec.beside_space(control.values))
    place = f"comes after the {counted(waiting, 'trial')} in the queue" if waiting else "is next in the queue"
    left = left_to_sampler(bridge.spec, control.values)
    chosen = f"the sampler chooses {', '.join(left)}" if left else ""
    joins = joins_controls(bridge.spec, control.values)
    role = "it is a control, since all its influence weights are 1" if joins else ""
    return "; ".join(filter(None, (said, f"{control.label} {place}", beside, chosen, role)))


def _stop(bridge: Bridge, number: int | None) -> str:
    if number is None:
        bridge.end("stopped by hand")
        return f"the study stops; go on from the last checkpoints with: {typed('resume', bridge.directory)}"
    if number not in bridge.running:
        open_ones = ", ".join(map(str, bridge.running))
        which = f"open are {open_ones}; choose one of them" if open_ones else "no trial is"
        raise UserError(f"--trial {number}: is not open (begun, and not ended); {which}")
    bridge.stop(number)
    return f"trial {number} stops, and counts as PRUNED"


def _missing_files(spec: StudySpec, control: Control) -> list[str]:
    """What no other trial reads and is not there; hub names are taken for right."""
    from study.check import control_config
    from study.files import read_files, relative_paths

    if not control.values.keys() & {"data.train", "model.path"}:
        return []
    spec = spec.model_copy(update={"enqueue": (*spec.enqueue, control)})
    config = control_config(spec, control.values)
    relative = relative_paths([config], spec) if spec.resources.ray_address is not None else []
    return relative + read_files([config], spec=spec, hub=False).mistakes


def _change(bridge: Bridge, values: Mapping[str, Any], *, enqueued: int = 0) -> str:
    from study import attributes
    from study.cluster import room
    from study.settings import setting_mistakes
    from study.tables import counted

    data = bridge.spec.model_dump(mode="json")
    for key, value in values.items():
        if key.split(".")[0] not in LIVE and key not in LIVE:
            raise UserError(f"{key} = {value}: {_why_not(key)}; allowed: {', '.join(LIVE)}")
        set_dotted(data, key, value)
    for line in explained(StudySpec, data).values():
        raise UserError(f"set: {line}")
    spec = StudySpec.model_validate(data)
    enqueued += sum(attributes.LABEL in each.user_attrs for each in bridge.study.get_trials(deepcopy=False))
    for line in setting_mistakes(spec, enqueued=enqueued):
        raise UserError(line)
    bridge.change(spec)
    now, later = (
        ", ".join(f"{key} is {flow(value)}" for key, value in values.items() if (key in LATER) is waits)
        for waits in (False, True)
    )
    said = "; ".join(part for part in (now, later and f"from the next resume on {later}") if part)
    fit = room(spec.resources) if "concurrency" in values else None
    if fit is not None and fit < spec.concurrency:
        said += f"; only {fit} fit at a time on what is there"
    if any(key.split(".")[0] == "replicas" for key in values):
        queued = sum(
            each.state.name == "WAITING" and attributes.CONFIRMS in each.user_attrs
            for each in bridge.study.get_trials(deepcopy=False)
        )
        said += f"; {counted(queued, 'confirmation')} in the queue will run all the same" if queued else ""
    if "trials" in values and spec.trials <= bridge.begun:
        said += f"; {bridge.begun} have begun already, so none is started any more" + (
            " but confirmations" if spec.replicas else ""
        )
    return said


def _why_not(key: str) -> str:
    """Why a value of a study that has begun is not changed."""
    if key.split(".")[0] in StudySpec.model_fields:
        return "cannot change once a study has begun"
    close = difflib.get_close_matches(key, LIVE, n=1, cutoff=0.8)
    return f"is no key; did you mean {close[0]}?" if close else "is no key of a study; what is trained does not change"


def _at_once(directory: Path, command: Stop | Change | Add | Enqueue) -> str:
    """Without a driver this process is one, for a moment."""
    from study.bridge import Bridge
    from study.results import read_study
    from study.storage import driving

    if (holder := driver(directory)) is not None:
        raise driven(directory, holder)
    if isinstance(command, Stop) and command.trial is None:
        results = read_study(directory)
        if results.ended >= results.planned:
            raise UserError(f"{directory}: the study has ended, with all its trials; there is nothing to stop")
        raise UserError(f"{directory}: no one drives it, so nothing runs; go on with: {typed('resume', directory)}")
    spec = StudySpec.from_file(directory / "study.yaml")
    with driver_lock(directory), driving(spec, directory) as study:
        dropped = drop_unanswered(directory)
        bridge = Bridge(study, spec, directory)
        said = carry_out(bridge, command)
        done = bridge.done
    then = "all trials have ended" if done else f"no one drives the study, go on with: {typed('resume', directory)}"
    return "\n".join([*dropped, f"{said}; {then}"])


def _taken_back(path: Path) -> bool:
    """Remove a command; False when a driver has taken it up meanwhile, and its answer will come."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
