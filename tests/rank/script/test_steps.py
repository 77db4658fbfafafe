"""Steps from what hooks see: their ends, their parts, and what is set apart."""

from __future__ import annotations

import pytest

from bench.rank.script import timeline as timelines
from bench.rank.script.steps import BACKWARD, DATA_WAIT, NEW_EPOCH, OPTIMIZER, SAVE, Steps
from bench.rank.script.timeline import Timeline

TRAIN, OTHER = 1, 2


class Played:
    """Steps, with a clock that the test moves by milliseconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = 0
        monkeypatch.setattr(timelines.time, "perf_counter_ns", lambda: self.now_ms * 10**6)
        self.steps = Steps()
        self.steps.start(Timeline())

    def during(self, part: str, ms: int) -> None:
        self.steps.enter(part)
        self.now_ms += ms
        self.steps.leave()

    def batch(self, ms: int = 2, samples: int | None = 8, dataset: int = TRAIN, trains: bool = True) -> None:
        self.during(DATA_WAIT, ms)
        self.steps.read(dataset, samples, trains)

    def step(self, outside: int = 1, rest: int = 3, backward: int = 5, optimizer: int = 4, micro: int = 1) -> None:
        self.now_ms += outside
        for _ in range(micro):
            self.batch()
            self.now_ms += rest
            self.during(BACKWARD, backward)
        self.during(OPTIMIZER, optimizer)
        self.steps.end_step()

    def parts_ms(self) -> list[list[int]]:
        """For each step data wait, rest, backward, optimizer and outside."""
        found = self.steps.parts_ns(self.steps.timeline.host_ns())
        return [[ns // 10**6 for ns in step] for step in zip(*found.values(), strict=True)]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(monkeypatch)


def test_a_step_lasts_from_the_end_of_the_one_before_to_its_own(played: Played) -> None:
    played.step()
    played.step(micro=3)
    assert played.parts_ms() == [[2, 3, 5, 4, 1], [6, 9, 15, 4, 1]]
    assert played.steps.samples() == [8, 24]
    assert played.steps.timeline.elapsed_ns() == (15 + 35) * 10**6


def test_what_is_inside_of_a_part_does_not_count_twice(played: Played) -> None:
    """As an L-BFGS step, which evaluates the loss and its backward pass."""
    played.batch()
    played.steps.enter(OPTIMIZER)
    played.now_ms += 1
    played.during(BACKWARD, 5)
    played.now_ms += 2
    played.steps.leave()
    played.steps.end_step()
    assert played.parts_ms() == [[2, 0, 5, 3, 0]]


def test_a_step_may_end_inside_of_a_backward_pass(played: Played) -> None:
    """As with optimizers in hooks of gradients; the rest of that pass is then the next step's."""
    for _ in range(2):
        played.batch()
        played.steps.enter(BACKWARD)
        played.now_ms += 4
        played.during(OPTIMIZER, 1)
        played.steps.end_step()
        played.now_ms += 2
        played.steps.leave()
    assert played.parts_ms() == [[2, 0, 4, 1, 0], [2, 0, 6, 1, 0]]


def test_without_a_loader_nothing_is_known_to_be_outside(played: Played) -> None:
    played.now_ms += 7
    played.during(BACKWARD, 5)
    played.during(OPTIMIZER, 4)
    played.steps.end_step()
    assert played.parts_ms() == [[0, 7, 5, 4, 0]]
    assert played.steps.samples() == [0]


def test_an_interval_with_anything_else_is_set_apart(played: Played) -> None:
    played.step()
    played.steps.apart(NEW_EPOCH)
    played.step()
    played.batch(samples=100, dataset=OTHER, trains=False)
    played.step()
    played.steps.apart(SAVE)
    played.batch(trains=False)
    played.step()
    played.batch(dataset=OTHER)
    played.step()
    assert played.steps.reasons() == ["", "new epoch", "validation", "save, validation", "another dataset"]
    assert (played.steps.samples() or [])[:3] == [8, 8, 8]  # a validation's samples are not trained


def test_two_datasets_that_are_read_in_each_step_are_ordinary(played: Played) -> None:
    for _ in range(3):
        played.batch(dataset=OTHER)
        played.step()
    played.step()
    assert played.steps.reasons() == ["", "", "", "another dataset"]


def test_an_evaluation_with_gradients_on_is_no_new_epoch(played: Played) -> None:
    played.step()
    played.step()
    played.steps.apart(NEW_EPOCH)
    played.batch(dataset=OTHER)
    played.step()
    assert played.steps.reasons()[2] == "another dataset"


def test_one_batch_of_unknown_size_makes_all_samples_unknown(played: Played) -> None:
    played.step()
    played.batch(samples=None)
    played.step()
    assert played.steps.samples() is None


def test_the_script_may_say_its_samples(played: Played) -> None:
    played.batch(samples=None)
    played.steps.end_step(17)
    assert played.steps.samples() == [17]
