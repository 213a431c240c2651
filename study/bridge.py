"""The bridge between a study's trials and ONE `optuna.Study`: it asks, reports, decides and tells. Knows no Ray.

Every trial ends in exactly one of COMPLETE (value: the metric of the last step), PRUNED (`pruned_at`) or FAIL
(`fail_reason`). Intermediate values are keyed by the training step, so that trials are compared at equal steps. A trial
whose driver stopped or died stays RUNNING and is handed out again, under its own number, by the next bridge.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from study import attributes, pruners, queue
from study.assignment import Assignment, Report
from study.budget import Account, usage, usage_so_far
from study.clock import now
from study.directory import say_enough, trial_directory, write_or_refuse
from study.lock import ROOM_AGAIN, note_driver
from study.notify import Notifier
from study.peers import Peers
from study.replicas import confirmations
from study.running import BY_HAND, Running, taken_up
from study.samplers import distributions, make_sampler
from study.spec import StudySpec
from trainer.digits import decimal
from trainer.errors import UserError


class StudyAborted(BaseException):
    """Ends the whole study for what would hit every trial. Not an Exception: Tune would log those and go on."""


class Bridge:
    """Serves the trials of `spec` from `study`; each writes to its own folder under `directory`."""

    def __init__(self, study: optuna.Study, spec: StudySpec, directory: Path) -> None:
        self.study, self.spec, self.directory = study, spec, directory
        self.ending: str | None = None
        """Why the study is stopping; running trials then end without an end, to be resumed."""
        self.notifier = Notifier(spec.notify, spec.name, directory)
        self._peers = Peers(study)
        self._sees_problems = pruners.sees_problems(spec.pruner.name, spec.pruner.options)
        self._running: dict[int, Running] = {}
        trials = study.get_trials(deepcopy=False)
        begun = [each for each in trials if each.state.name != "WAITING"]
        self._asked = sum(attributes.CONFIRMS not in each.user_attrs for each in begun)
        self.account = Account(spec.budget, spec.resources, [each for each in trials if each.state.is_finished()])
        self._left: deque[FrozenTrial] = deque()
        for each in trials:
            if each.state.name == "RUNNING":
                self._take_over(each)

    def ask(self) -> Assignment | None:
        """The next trial, its config already written: first those that an earlier driver left running, then enqueued
        and new ones, at last the confirmations. None while or when there is none.

        A sampled point that is not a valid config is told as FAIL, counts as a trial, and the next is asked for.
        """
        while self.ending is None and (running := self._next()) is not None:
            trial = running.trial
            try:
                config = self.spec.config({**trial.params, **trial.user_attrs.get(attributes.BESIDE, {})})
            except UserError as error:
                self.fail(trial.number, str(error))
                self.finish(trial.number)
                continue
            running.directory.mkdir(exist_ok=True)
            (running.directory / "stop").unlink(missing_ok=True)
            text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
            write_or_refuse(running.directory / "config.yaml", text)
            running.mark_starting(True)
            return Assignment(trial.number, trial.params, running.directory, config, trial.user_attrs)
        return None

    def report(self, number: int, report: Report) -> bool:
        """Record a trial's evaluation. True when the trial should stop now.

        A run that was resumed tells its evaluations again: earlier steps are ignored, and at the last one reported only
        the decision is taken anew, since the driver may have died before it.
        """
        running, step = self._running[number], report.step
        running.mark_starting(False)
        self.account.trains(number)
        if step < running.last_step:
            return False
        self.account.used(number, usage(self.spec.resources, seconds=report.seconds, tokens=report.tokens))
        if step > running.last_step:
            running.last_step, running.value, running.length = step, report.value, report.length
            if not math.isfinite(report.value):
                self.fail(number, f"{self.spec.metric} is {report.value} at step {step}")
                return True
            self._record(running.trial, report)
        if self.ending is not None or running.pruned_at is not None:
            return True
        if (reason := self.account.spent()) is not None:
            self.end(reason)
            return True
        if step >= self.spec.steps:  # a trial has cost all it can: there is nothing left to save
            return False
        if report.collapsed is not None or self._prunes(running):
            running.prune(report.collapsed)
            return True
        return False

    def look(self, number: int, *, step: int, samples: int, solved: Sequence[int]) -> None:
        """Take a racing evaluation under way: `solved` [problems] of `samples` responses each, at `step`.

        Says that these are enough where more could not change what the pruner decides. Confirmations draw them all.
        """
        from study.aime_pruner import AimePruner

        running, pruner = self._running[number], self.study.pruner
        running.mark_starting(False)
        if not isinstance(pruner, AimePruner) or attributes.CONFIRMS in running.trial.user_attrs:
            return
        if not pruner.is_open(self._peers, step, solved, samples):
            say_enough(running.directory, step, samples)

    def fail(self, number: int, reason: str) -> None:
        """Have the trial end as FAIL for `reason` (one line). The first reason stays."""
        running = self._running[number]
        if running.fail_reason is None:
            running.fail_reason = " ".join(reason.split())

    def died(self, number: int) -> None:
        """A process of the trial died. It is counted and told; whether the trial goes on is for others to decide."""
        running = self._running[number]
        running.mark_starting(True)
        self.account.rests(number)
        running.trial.set_user_attr(attributes.DEATHS, times := running.trial.user_attrs.get(attributes.DEATHS, 0) + 1)
        text = f"trial {number} lost a process after step {max(running.last_step, 0)} ({times} so far)"
        self._lost(text, trial=number)

    def waits(self, why: str | None) -> None:
        """Trials wait for room, and `why`, or None: they have it again. It is told, as a death is, and written down."""
        note_driver(self.directory, waits=why)
        self._lost(why or ROOM_AGAIN)

    def stop(self, number: int) -> None:
        """Have a trial stop within seconds. It ends as PRUNED where it stands, by hand."""
        if number in self._running:
            self._running[number].prune(BY_HAND)
            (self._running[number].directory / "stop").touch()
            return
        left = next(each for each in self._left if each.number == number)
        self._left.remove(left)
        self._running[number] = self._taken_up(self._reopened(left), left)
        self._running[number].prune(BY_HAND)
        self.finish(number)

    def end(self, reason: str) -> None:
        """Stop the study: nothing new begins, and what runs stops within seconds, to be resumed."""
        self.ending = reason
        for running in self._running.values():
            (running.directory / "stop").touch()

    def change(self, spec: StudySpec) -> None:
        """Go on by another spec, which differs in what may change while a study runs, and write it down."""
        write_or_refuse(self.directory / "study.yaml", spec.to_yaml())
        self.spec = spec
        self.account.budget = spec.budget
        self.notifier.settings = spec.notify

    @property
    def running(self) -> list[int]:
        """Numbers of the trials that have begun and not ended, those that an earlier driver left included."""
        return [*self._running, *(each.number for each in self._left)]

    @property
    def begun(self) -> int:
        """Trials that have begun or ended, confirmations not among them."""
        return self._asked

    @property
    def _full(self) -> bool:
        return self._asked >= self.spec.trials

    @property
    def done(self) -> bool:
        """Whether nothing is running, nothing is left to hand out, and no trial has stopped to be resumed."""
        if self._running or self._left or not self._full:
            return False
        trials = self.study.get_trials(deepcopy=False)
        ended = all(each.state.is_finished() or queue.held_back(each, full=True) for each in trials)
        return ended and not confirmations(trials, self.spec)

    def finish(self, number: int) -> None:
        """Tell Optuna how trial `number` ended; a pruned one loses its checkpoints, any other all but the newest.

        One that stopped short of its last step without a reason failed, unless the study is ending: then it stays
        RUNNING, for a driver to come.
        """
        running = self._running.pop(number, None)
        if running is None:
            return
        self.account.rests(number)
        trial, short = running.trial, running.last_step < self.spec.steps
        if running.fail_reason is None and running.pruned_at is None and short:
            if self.ending is not None:
                return
            running.fail_reason = f"ended after step {max(running.last_step, 0)} of {self.spec.steps}"
        self.account.used(number, usage_so_far(self.spec.resources, running.directory))  # since its last evaluation too
        trial.set_user_attr(attributes.USAGE, dataclasses.asdict(self.account.usage(number)))
        if running.fail_reason is not None:
            trial.set_user_attr(attributes.FAIL_REASON, running.fail_reason)
            self.study.tell(trial, state=TrialState.FAIL)
            running.thin()
            self.notifier.tell("failed", f"trial {number} failed: {running.fail_reason}", trial=number)
        elif running.pruned_at is not None:
            self.study.tell(trial, state=TrialState.PRUNED)
            # At 32B they are 400 GB a trial, and no one goes on with a pruned one.
            shutil.rmtree(running.directory / "checkpoints", ignore_errors=True)
        else:
            self.study.tell(trial, [running.value, running.length] if self.spec.against else running.value)
            running.thin()
            if running.value > self.account.best and attributes.CONFIRMS not in running.trial.user_attrs:
                text = f"trial {number} is the best so far: {self.spec.metric_name()} {decimal(running.value)}"
                self.notifier.tell("best", text, trial=number, value=running.value, params=trial.params)
            self.account.completed(running.value)

    def _lost(self, text: str, **numbers: int) -> None:
        print(f"{now()} {text}", flush=True)
        self.notifier.tell("lost", text, **numbers)

    def _record(self, trial: optuna.Trial, report: Report) -> None:
        if self._sees_problems and report.solved:
            record = {"samples": report.samples, "solved": list(report.solved)}
            trial.set_user_attr(attributes.solved(report.step), record)
        if self.spec.against:
            # Trial.report refuses several objectives, since none of Optuna's pruners can use them; readers can.
            trial.set_user_attr(attributes.LENGTH, report.length)
            self.study._storage.set_trial_intermediate_value(trial._trial_id, report.step, report.value)
        else:
            trial.report(report.value, report.step)

    def _prunes(self, running: Running) -> bool:
        confirms = attributes.CONFIRMS in running.trial.user_attrs
        return not confirms and not self.spec.against and self._peers.prunes(running.trial)

    def _next(self) -> Running | None:
        """A trial with all its parameters sampled, now among the running."""
        trials = self.study.get_trials(deepcopy=False)
        found = self._left.popleft() if self._left else self._waiting(trials)
        if found is None and self._full:
            return None
        # A sampler of its own for each trial, seeded by its number: what is sampled does not depend on how often the
        # driver was started anew.
        self.study.sampler = make_sampler(self.spec, found.number if found is not None else len(trials))
        fresh = found is None or found.state.name == "WAITING"
        if found is not None and fresh:  # `ask` would take the first of the queue, which may be held back
            self.study._storage.set_trial_state_values(found._trial_id, TrialState.RUNNING)
        trial = self.study.ask() if found is None else self._reopened(found)
        self._asked += fresh and attributes.CONFIRMS not in trial.user_attrs
        for key, distribution in distributions(self.spec).items():
            trial._suggest(key, distribution)  # as Study.ask does; what was sampled already stays
        running = self._running[trial.number] = self._taken_up(trial, found)
        return running

    def _waiting(self, trials: list[FrozenTrial]) -> FrozenTrial | None:
        """The first trial in the queue that may begin. When all else is done, confirmations enter it."""
        waiting = queue.first(trials, full=self._full)
        if waiting is None and self._full and not self._running:
            for each in confirmations(trials, self.spec):
                self.study.enqueue_trial(each.params, user_attrs=each.attributes)
            waiting = queue.first(self.study.get_trials(deepcopy=False), full=True)
        return waiting

    def _reopened(self, left: FrozenTrial) -> optuna.Trial:
        return optuna.trial.Trial(self.study, left._trial_id)

    def _taken_up(self, trial: optuna.Trial, left: FrozenTrial | None) -> Running:
        running = taken_up(trial, self.directory / trial_directory(trial.number), left)
        self.account.used(trial.number, usage_so_far(self.spec.resources, running.directory))
        return running

    def _take_over(self, left: FrozenTrial) -> None:
        """Queue a trial that an earlier driver left, or tell its end, if that one died between deciding and telling."""
        running = self._taken_up(self._reopened(left), left)
        if running.pruned_at is None and running.fail_reason is None and running.last_step < self.spec.steps:
            running.mark_starting(True)
            self._left.append(left)
            return
        self._running[left.number] = running
        self.finish(left.number)
