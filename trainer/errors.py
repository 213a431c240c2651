"""The ways a run can end early: the user gave something unusable, training went bad, or a rank was lost."""

from __future__ import annotations


class UserError(Exception):
    """Bad input. The message is one line: the value, where it stands, what is allowed, what to do (exit code 2)."""


class TrainingDiverged(Exception):
    """A loss, gradient or log-probability stopped being finite. Ends this run, never the study.

    Args:
        step: training step (rollout number, from 1) at which it happened.
        rank: the first rank that had it.
        term: the quantity that was not finite, for example ``"log-prob"``.
    """

    def __init__(self, step: int, rank: int, term: str) -> None:
        super().__init__(step, rank, term)
        self.step, self.rank, self.term = step, rank, term

    def __str__(self) -> str:
        return (
            f"{self.term} is not finite at step {self.step} on rank {self.rank};"
            " lower optimizer.learning_rate or optimizer.grad_clip"
        )


class RankLost(RuntimeError):
    """Another rank of the run died, or did not answer in time. Ends this rank."""


def root_line(error: BaseException) -> str:
    """The first line of the error that everything began with, for example "database or disk is full". Of a traceback in
    the place of a message, as Ray Tune puts it there, the first line of what was raised last."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip() or type(error).__name__
    head = "Traceback (most recent call last):\n"
    if text.startswith(head):  # its frames are indented
        _, _, text = text.rpartition(head)
        text = next((line for line in text.splitlines() if not line.startswith(" ")), text)
    return text.splitlines()[0]
