"""Ranks in place of a launcher that keep a pace of their own in each launch: comparisons without torch."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from test_session import Quiet, Ranks

from bench import cli
from bench.ab import Ab
from bench.analysis.power import Blocks
from bench.case import Case
from bench.contest import Contest
from bench.devices import Machine
from bench.launching import DESCRIBE_ENTRY
from bench.messages import PARTS, Measurement, Spec
from bench.preflight import Look
from bench.session import Session
from bench.sides import Side
from bench.suite import Asked, asked
from launch import LaunchError, Outcome, Request, Watch, never

STEP_NS = 10**8  # at a pace of 1
MLP = {"workload": "mlp", "strategy": "single", "gpus": "1", "device": "cpu"}

Pace = Callable[[Case, int], float]  # of a case in the launch of that number, from 0


@dataclasses.dataclass
class Turns(Ranks):
    """``launched`` has what was launched, each with the number of the launcher's server, from 1; a launch whose number
    is in ``fails_at`` runs out of memory, one in ``never_starts`` does not come to be."""

    pace: Pace = lambda case, number: 1.0
    fails_at: Callable[[Case, int], bool] = lambda case, number: False
    never_starts: bool = False
    launched: list[tuple[int, Case]] = dataclasses.field(default_factory=list)
    servers: int = 0
    is_up: bool = False

    def close(self) -> None:
        self.is_up = False

    def launch(self, request: Request, watch: Watch = never) -> Outcome:
        spec = Spec.read(request.argument)
        if request.entry != DESCRIBE_ENTRY:
            if self.never_starts:
                raise LaunchError("the launch server did not start")
            self.servers += not self.is_up
            self.is_up = True
            self.fails = self.fails_at(spec.case, len(self.launched))
            self.launched.append((self.servers, spec.case))
        return super().launch(request, watch)

    def _measured(self, spec: Spec) -> Measurement:
        one = super()._measured(spec)
        part = round(STEP_NS / len(PARTS) / self.pace(spec.case, len(self.launched) - 1))
        step = part * len(PARTS)
        return dataclasses.replace(
            one,
            window_ns=spec.steps * step,
            steps_ns=[step] * spec.steps,
            parts_ns={name: [part] * spec.steps for name in PARTS},
        )


def plain(monkeypatch: pytest.MonkeyPatch, ranks: Ranks) -> None:
    """Every launch from now on is made by ``ranks``, on a machine without GPUs that nobody looks at."""
    monkeypatch.setattr("bench.launching.make_launcher", lambda *_: ranks)
    for module in ("bench.contest", "bench.devices"):
        monkeypatch.setattr(f"{module}.this_machine", Machine)
    for module in ("bench.contest", "bench.preflight"):
        monkeypatch.setattr(f"{module}.look", lambda *_: Look())


def wanted(axes: dict[str, str] | None = None, **settings: str) -> Asked:
    """Five steps of mlp on one CPU rank, and what is given over that."""
    return asked({name: [text] for name, text in {**MLP, **(axes or {})}.items()}, {"steps": "5", **settings})


@contextmanager
def turns(
    monkeypatch: pytest.MonkeyPatch,
    out: Path,
    ranks: Turns,
    a: dict[str, str],
    b: dict[str, str],
    blocks: Blocks | dict[str, Blocks],
    axes: dict[str, str] | None = None,
    **settings: str,
) -> Iterator[tuple[Ab, dict[str, Session], list[str]]]:
    """A comparison that is ready to run, its sessions, and what it tells."""
    plain(monkeypatch, ranks)
    sides = [Side(name, {axis: [text] for axis, text in own.items()}) for name, own in (("A", a), ("B", b))]
    contest, told = Contest.planned("ab", wanted(axes, **settings), sides, out), list[str]()
    with contest.begun(Quiet()) as (store, sessions):
        try:
            pairs = contest.completed(sessions)
            counts = blocks if isinstance(blocks, dict) else {pair.name: blocks for pair in pairs}
            seed = contest.plans["A"].protocol.order_seed
            yield Ab(pairs, sessions, counts, seed, told.append), sessions, told
        finally:
            store.close()


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cwd: Path, *words: str) -> Done:
    """`bench` in this process, whose ranks are those of ``plain``; results are in ``cwd``."""
    monkeypatch.chdir(cwd)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    monkeypatch.setattr("bench.interrupts.install", lambda: None)
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert "Traceback" not in err, err
    return Done(int(end.value.code or 0), out, err)
