"""Trainings of many cases by few launches: cases of one world size share a launch, one after the other."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from bench.messages.spec import Spec
from bench.plan.case import Case
from launch import Launcher, Outcome, Request


def cases_of(request: pytest.FixtureRequest) -> list[Case]:
    """Return the cases that are parameters of the selected tests of the module that asks."""
    tests = [item for item in request.session.items if item.path == request.path]
    values = [value for test in tests if hasattr(test, "callspec") for value in test.callspec.params.values()]
    return [value for value in values if isinstance(value, Case)]


STUCK_S = 90.0  # without a case that is done
MOST_CASES = 24  # in a launch: each case makes process groups, whose threads stay


class Trainings:
    """The files that the ranks of some cases leave: ``entry`` is of ``rank_entries.py``, and ``left`` its file.

    A launch has at most MOST_CASES. No case depends on another: one that fails or hangs ends its launch, and the cases
    after it get a launch of their own. A compiled case is alone in its launch, as a compiler keeps what it has compiled.
    """

    def __init__(
        self, launcher: Launcher, folder: Path, entry: str, left: str, cases: Iterable[Case], steps: int
    ) -> None:
        self.launcher, self.folder, self.entry, self.left, self.steps = launcher, folder, entry, left, steps
        alike: dict[object, list[Case]] = defaultdict(list)
        for case in dict.fromkeys(cases):
            alike[_group(case)].append(case)
        launches = [some[at : at + MOST_CASES] for some in alike.values() for at in range(0, len(some), MOST_CASES)]
        self.waiting = {case: launch for launch in launches for case in launch}
        self.failed: dict[Case, str] = {}

    def __getitem__(self, case: Case) -> Path:
        """Return the file that a case has left; the test fails with what its ranks said where it has left none."""
        cases = self.waiting.get(case, [])
        for one in cases:
            del self.waiting[one]
        while cases:
            if (outcome := self._launch(cases)).ok:
                break
            number = sum(self._file(case).exists() for case in cases[:-1])  # of the case that failed
            errors = [file.read_text() for file in sorted(self._file(cases[number]).parent.glob("error*.txt"))]
            self.failed[cases[number]] = "\n".join([str(outcome), *errors])
            cases = cases[number + 1 :]
        if case in self.failed:
            pytest.fail(f"{case.case_id}: {self.failed[case]}")
        return self._file(case)

    def _launch(self, cases: list[Case]) -> Outcome:
        """Train the cases in one launch, which ends early where no case is done for long."""
        request = Request(
            entry=f"rank_entries:{self.entry}",
            argument=json.dumps([self._spec(case) for case in cases]),
            ranks=cases[0].world_size,
            timeout_s=STUCK_S,
            log=self._file(cases[0]).parent,
            environment={"OMP_NUM_THREADS": "1"},
        )
        prepared = self.launcher.prepare(request)
        done, since = 0, time.monotonic()

        def stuck() -> bool:
            nonlocal done, since
            if (now := sum(self._file(case).exists() for case in cases)) > done:
                done, since = now, time.monotonic()
            return time.monotonic() - since > STUCK_S

        return prepared.launch(stuck)

    def _spec(self, case: Case) -> str:
        folder = self._file(case).parent
        folder.mkdir(exist_ok=True)  # of a case that is launched again
        spec = Spec(
            *(case, case.spec.target, case.spec.options, case.data, 0, self.steps, 0, 60, str(folder), str(folder))
        )
        return str(spec.write())

    def _file(self, case: Case) -> Path:
        return self.folder / case.case_id / self.left


def _group(case: Case) -> object:
    return case.world_size if case.compile == "off" else case
