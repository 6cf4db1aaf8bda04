import jax
import numpy as np
import pytest

from jaxclust.clustering import thresholds


def test_they_stay_after_the_last_epoch():
    schedule = thresholds.linear(3, (0.9, 0.5))
    state = thresholds.start(schedule)
    seen = []
    for _ in range(5):
        seen.append(float(state.upper))
        state = thresholds.advance(schedule, state, 3)
    np.testing.assert_allclose(seen, [0.9, 0.7, 0.5, 0.5, 0.5], atol=1e-6)


def test_the_papers_thresholds_follow_equation_12():
    schedule = thresholds.adaptive()
    state = thresholds.start(schedule)
    value = 0.0
    epochs = 0
    while epochs < 60:
        upper, lower = 0.95 - value, 0.455 + 0.1 * value
        np.testing.assert_allclose(state, [value, upper, lower], atol=1e-5)
        if lower > upper:
            break
        epochs += 1
        # lambda := lambda - eta dE/dlambda, E = u - l.
        gradient = jax.grad(lambda v: (0.95 - v) - (0.455 + 0.1 * v))(value)
        value -= 0.009 * float(gradient)
        state = thresholds.advance(schedule, state)
    assert epochs == thresholds.epochs_until_crossing(schedule) == 46


def test_linear_thresholds_meet_both_ends():
    schedule = thresholds.linear(20, (0.9, 0.5))
    state = thresholds.start(schedule)
    seen = []
    for _ in range(20):
        seen.append((float(state.upper), float(state.lower)))
        state = thresholds.advance(schedule, state)
    np.testing.assert_allclose([u for u, _ in seen], np.linspace(0.9, 0.5, 20), atol=1e-5)
    assert all(u == low for u, low in seen)
    with pytest.raises(ValueError, match="never cross"):
        thresholds.epochs_until_crossing(schedule)


def test_two_linear_thresholds():
    schedule = thresholds.linear(50, (0.99, 0.895), (0.8, 0.895))
    last = thresholds.at(schedule, 1.0)
    np.testing.assert_allclose([last.upper, last.lower], [0.895, 0.895], atol=1e-6)
    assert thresholds.epochs_until_crossing(schedule) == 50
