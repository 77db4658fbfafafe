"""By which method it is found how much of a step waits for communication."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_up_plans import case

from bench.messages.step_profile import BY_ABLATION, BY_PROFILE, StepProfile
from bench.rank.profiling import method


def asked(monkeypatch: pytest.MonkeyPatch, value: str, **axes: Any) -> tuple[str, Path | None]:
    """The method of a case, and where its trace goes; no step is taken."""
    made: list[Path | None] = []

    def profiled(training: object, moved: object, trace: Path | None) -> StepProfile:
        made.append(trace)
        return StepProfile(BY_PROFILE)

    monkeypatch.setattr(method, "profiled", profiled)
    monkeypatch.setattr(method, "ablated", lambda *_: StepProfile(BY_ABLATION))
    planned = case(**axes)
    training: Any = SimpleNamespace(case=planned, distributed=planned.spread.name not in ("single", "dp"))
    found = method.profile_of(training, value, lambda: None, "there", 3)
    return found.note or found.method, next(iter(made), None)


def test_a_profile_unless_ablation_is_asked_for_or_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    ddp: dict[str, Any] = {"strategy": "ddp", "gpus": 2}
    assert asked(monkeypatch, "on", **ddp) == ("profile", None)
    assert asked(monkeypatch, "traces", **ddp) == ("profile", Path("there/rank3.trace.json.gz"))
    assert asked(monkeypatch, "ablation", **ddp) == ("ablation", None)
    assert asked(monkeypatch, "ablation", strategy="single") == ("profile", None)  # it has no collectives
    assert asked(monkeypatch, "on", **ddp, compile="default") == ("ablation", None)
    assert asked(monkeypatch, "on", **ddp, compile="default", device="cuda") == ("profile", None)


def test_where_no_method_sees_it_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, "on", strategy="dp", gpus=2, device="cuda")[0] == method.NO_COLLECTIVES
    assert asked(monkeypatch, "on", strategy="single", compile="default")[0] == method.COMPILED


def test_steps_that_fail_leave_the_reason(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*_: object) -> StepProfile:
        raise RuntimeError("no")

    monkeypatch.setattr(method, "profiled", fails)
    training: Any = SimpleNamespace(case=case(strategy="ddp", gpus=2), distributed=True)
    assert method.profile_of(training, "on", lambda: None, "there", 0) == StepProfile(
        BY_PROFILE, note="the profiled steps failed: RuntimeError"
    )
    assert "RuntimeError: no" in capsys.readouterr().err
