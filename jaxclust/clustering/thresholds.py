"""DAC's thresholds: which similarity counts as alike, which as different."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Schedule(NamedTuple):
    """u and l as straight lines in lambda, and how lambda moves."""

    upper: float  # u at lambda = 0
    upper_slope: float
    lower: float  # l at lambda = 0
    lower_slope: float
    step: float  # of lambda, per epoch


class ThresholdState(NamedTuple):
    """Where the selection stands."""

    adaptive: Array  # float []: lambda
    upper: Array  # float []: u, pairs from here on are similar
    lower: Array  # float []: l, pairs below are dissimilar


def adaptive(rate: float = 0.009) -> Schedule:
    """The paper's schedule: u = 0.95 - lambda, l = 0.455 + 0.1 lambda.

    Chang et al. 2017, Sec. 5.4. Lambda moves by gradient descent on u - l (Eq. 12),
    with learning rate `rate`.
    """
    upper_slope, lower_slope = -1.0, 0.1
    return Schedule(0.95, upper_slope, 0.455, lower_slope, rate * (lower_slope - upper_slope))


def linear(
    epochs: int, upper: tuple[float, float], lower: tuple[float, float] | None = None
) -> Schedule:
    """Thresholds that run in equal steps from a first to a last value.

    Args:
        epochs: the first epoch has the first value, the last epoch the last; where there is only
            one, it has the first.
        upper: first and last u.
        lower: first and last l; None means l = u, so that every pair is used.
    """
    lower = upper if lower is None else lower
    return Schedule(
        upper[0], upper[1] - upper[0], lower[0], lower[1] - lower[0], 1 / max(epochs - 1, 1)
    )


def start(schedule: Schedule) -> ThresholdState:
    """The thresholds of the first epoch."""
    return at(schedule, jnp.zeros(()))


def at(schedule: Schedule, value: Array) -> ThresholdState:
    """The thresholds at a lambda, float []."""
    upper = schedule.upper + schedule.upper_slope * value
    return ThresholdState(value, upper, schedule.lower + schedule.lower_slope * value)


def advance(schedule: Schedule, state: ThresholdState, epochs: int | None = None) -> ThresholdState:
    """The thresholds of the next epoch (Eq. 12).

    Args:
        schedule: how they move.
        state: the last epoch's.
        epochs: after so many they stay as they are.
    """
    value = state.adaptive + schedule.step
    if epochs is not None:
        value = jnp.minimum(value, (epochs - 1) * schedule.step)
    return at(schedule, value)


def epochs_until_crossing(schedule: Schedule) -> int:
    """Epochs with l <= u, after which Algorithm 1 stops; at least 1.

    Raises:
        ValueError: the thresholds never cross.
    """
    closing = (schedule.lower_slope - schedule.upper_slope) * schedule.step
    if closing <= 0:
        raise ValueError("these thresholds never cross; say how many epochs to train")
    # One rounding error more than the gap is still l <= u.
    return int((schedule.upper - schedule.lower) / closing + 1e-9) + 1
