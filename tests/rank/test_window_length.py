"""How many steps a window has, and that its length does not select fast or slow windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from bench.rank.window_length import more_steps, warmup_steps_left, window_steps

MS = 1_000_000


@pytest.mark.parametrize(
    ("asked", "step_ms", "min_seconds", "max_seconds", "steps"),
    [
        (20, 100, 0, 0, 20),
        (20, 100, 1.5, 0, 20),  # 20 steps take 2 s
        (20, 100, 5, 0, 53),  # 5.25 s, rounded up
        (20, 100, 0, 5, 20),
        (20, 100, 0, 1.25, 12),
        (20, 100, 0, 0.05, 2),  # never fewer than two
        (20, 1600, 0, 2, 2),
        (2, 100, 1, 1, 10),  # the limit is above what the window aims at
        (20, 0, 0, 1, 20),  # a step that takes no time
    ],
)
def test_a_window_has_what_was_asked_or_fills_its_seconds_and_no_more_than_the_limit(
    asked: int, step_ms: float, min_seconds: float, max_seconds: float, steps: int
) -> None:
    assert window_steps(asked, step_ms * MS, min_seconds, max_seconds) == steps


@pytest.mark.parametrize(
    ("steps", "window_ms", "min_seconds", "more"),
    [
        (10, 1000, 1, 0),
        (10, 1200, 1, 0),
        (10, 999.9, 1, 1),
        (10, 500, 1, 11),  # 500 ms are left, and 50 ms a step: 10 x 1.05
        (1, 1, 1, 1049),  # 999 x 1.05 = 1048.95
    ],
)
def test_a_window_that_is_too_short_goes_on(steps: int, window_ms: float, min_seconds: float, more: int) -> None:
    assert more_steps(steps, window_ms * MS, min_seconds) == more


@pytest.mark.parametrize(
    ("steps", "step_ms", "max_seconds", "left"), [(4, 100, 0, 4), (4, 100, 1, 4), (4, 200, 1, 2), (4, 501, 1, 0)]
)
def test_warm_up_leaves_out_what_does_not_fit(steps: int, step_ms: float, max_seconds: float, left: int) -> None:
    assert warmup_steps_left(steps, step_ms * MS, max_seconds) == left


# -- lengthening a window has no bias --------------------------------------------------------------------------------

WINDOWS = 1000
ASKED, STEP_MS, MIN_SECONDS = 20, 100.0, 5.0


Machine = Callable[[np.random.Generator, float], Iterator[float]]


def of_steps(draw: np.random.Generator, noise: float) -> Iterator[float]:
    """Steps that vary independently."""
    while True:
        yield from STEP_MS * np.exp(draw.normal(-(noise**2) / 2, noise, 100))


def of_windows(draw: np.random.Generator, noise: float) -> Iterator[float]:
    """A machine that is slow or fast for longer than a window."""
    speed = math.exp(draw.normal(-(noise**2) / 2, noise))
    while True:
        yield STEP_MS * speed


def of_minutes(draw: np.random.Generator, noise: float) -> Iterator[float]:
    """Speeds that last for some ten steps, and return to the mean."""
    at = draw.normal(0, noise)
    while True:
        yield STEP_MS * math.exp(at - noise**2 / 2)
        at = 0.9 * at + math.sqrt(1 - 0.9**2) * draw.normal(0, noise)


def windows(machine: Machine, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (steps, ms) of many windows, none of which is too short."""
    draw = np.random.default_rng(14)
    steps, took_ms = np.array([window(machine(draw, noise)) for _ in range(WINDOWS)]).T
    assert (took_ms >= MIN_SECONDS * 1e3).all()
    return steps, took_ms


def window(steps_ms: Iterator[float]) -> tuple[int, float]:
    """Return (steps, ms) of a window as in bench.rank.measure, after a warm-up with the same noise."""
    pace_ms = (next(steps_ms) + next(steps_ms)) / 2
    more, done, took_ms = window_steps(ASKED, pace_ms * MS, MIN_SECONDS, 0), 0, 0.0
    while more:
        took_ms += sum(next(steps_ms) for _ in range(more))
        done += more
        more = more_steps(done, took_ms * MS, MIN_SECONDS)
    return done, took_ms


@pytest.mark.parametrize("noise", [0.05, 0.10])
@pytest.mark.parametrize("machine", [of_steps, of_minutes])
def test_windows_of_a_least_length_take_what_their_steps_take(machine: Machine, noise: float) -> None:
    """The time of all windows over all their steps is the mean step, within three standard errors of the simulation.

    If short windows were discarded instead, the mean would be 1 % (noise 5 %) and 4 % (10 %) too slow.
    """
    steps, took_ms = windows(machine, noise)
    off = took_ms - STEP_MS * steps
    assert abs(off.mean()) < 3 * off.std(ddof=1) / math.sqrt(WINDOWS)


@pytest.mark.parametrize("noise", [0.05, 0.10])
def test_a_fast_machine_is_not_left_out(noise: float) -> None:
    """If a window has one speed from begin to end, it measures that speed, however many steps were added."""
    steps, took_ms = windows(of_windows, noise)
    off = np.log(took_ms / steps / STEP_MS) + noise**2 / 2
    assert abs(off.mean()) < 3 * noise / math.sqrt(WINDOWS)
