"""The search space: how one trainer key is sampled, and what that is in Optuna's terms.

Optuna is imported where it is used, so that reading a spec stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from trainer.config import Frozen

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = bool | int | float | str | None
"""What a trainer key can be set to; None, in YAML null, is off."""


class Uniform(Frozen):
    """A float between `low` and `high`, both included."""

    type: Literal["uniform"]
    low: float
    """Smallest value."""
    high: float
    """Largest value."""

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        return _check_order(self)

    def optuna(self) -> BaseDistribution:
        """Optuna's form of this distribution."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high)

    def ends(self) -> tuple[Value, ...]:
        """The values that stand for all others in checks."""
        return (self.low, self.high)


class LogUniform(Frozen):
    """A float between `low` and `high` whose logarithm is uniform; for rates and half-lives."""

    type: Literal["log-uniform"]
    low: float = Field(gt=0)
    """Smallest value, above 0."""
    high: float
    """Largest value."""

    @model_validator(mode="after")
    def _ordered(self) -> LogUniform:
        return _check_order(self)

    def optuna(self) -> BaseDistribution:
        """Optuna's form of this distribution."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=True)

    def ends(self) -> tuple[Value, ...]:
        """The values that stand for all others in checks."""
        return (self.low, self.high)


class Int(Frozen):
    """A whole number: `low`, `low + step`, ... up to `high`."""

    type: Literal["int"]
    low: int
    """Smallest value."""
    high: int
    """Largest value."""
    step: int = Field(default=1, ge=1)
    """Distance of neighbouring values."""

    @model_validator(mode="after")
    def _ordered(self) -> Int:
        if (self.high - self.low) % self.step:
            raise ValueError(
                f"high = {self.high} is not low = {self.low} plus a multiple of step = {self.step}; move one of them"
            )
        return _check_order(self)

    def optuna(self) -> BaseDistribution:
        """Optuna's form of this distribution."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, step=self.step)

    def ends(self) -> tuple[Value, ...]:
        """Every value when there are few (one between the ends may be the bad one), else both ends."""
        values = range(self.low, self.high + 1, self.step)
        return tuple(values) if len(values) <= 64 else (self.low, self.high)


class Choice(Frozen):
    """One of `values`. `choice` is sampled; `grid` asks the grid sampler to try every value."""

    type: Literal["choice", "grid"]
    values: tuple[Value, ...] = Field(min_length=1)
    """The values, each once; null is off, as of `rollout.importance_cap`."""

    @model_validator(mode="after")
    def _distinct(self) -> Choice:
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"values = {list(self.values)} names a value twice; write each once")
        return self

    def optuna(self) -> BaseDistribution:
        """Optuna's form of this distribution."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def ends(self) -> tuple[Value, ...]:
        """All values."""
        return self.values


Distribution = Annotated[Uniform | LogUniform | Int | Choice, Field(discriminator="type")]


def grid_values(distribution: Uniform | LogUniform | Int | Choice) -> tuple[Value, ...] | None:
    """Every value of a finite distribution, None for a continuous one."""
    if isinstance(distribution, Choice):
        return distribution.values
    if isinstance(distribution, Int):
        return tuple(range(distribution.low, distribution.high + 1, distribution.step))
    return None


def contains(distribution: Uniform | LogUniform | Int | Choice, value: Value) -> bool:
    """Whether a control may take `value`: Optuna would sample around it, so it has to lie inside."""
    if isinstance(distribution, Uniform | LogUniform):
        return isinstance(value, int | float) and distribution.low <= value <= distribution.high
    return value in (grid_values(distribution) or ())


def describe(distribution: Uniform | LogUniform | Int | Choice) -> str:
    """The allowed values in words, for error messages."""
    if isinstance(distribution, Choice):
        return "one of " + ", ".join("null" if value is None else str(value) for value in distribution.values)
    return f"{distribution.low} to {distribution.high}"


def few_digits(value: object) -> str:
    """A value as it is shown: a number in three digits, and as YAML writes it where it is none."""
    if value is None:
        return "null"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.3g}"


def _check_order(distribution: Any) -> Any:
    if distribution.low >= distribution.high:
        raise ValueError(
            f"low = {distribution.low} is not below high = {distribution.high};"
            " swap them, or fix the key under trainer when it has one value"
        )
    return distribution
