"""Why Slurm ends a job, by the lines that Slurm 22.05 wrote to logs of jobs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from bench.machine.slurm_log import LOG, why_ended

NOW = datetime(2026, 11, 30, 8, 23, 20)
STEP = "slurmstepd-n1: error: *** STEP 15.0 ON n1 CANCELLED AT 2026-11-30T08:23:14{} ***\n"
JOB = "slurmstepd-n1: error: *** JOB 15 ON n1 CANCELLED AT 2026-11-30T08:{}{} ***\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (JOB.format("23:14", " DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS"), "node failure"),
        (JOB.format("23:14", " DUE TO PREEMPTION"), "preemption"),
        (JOB.format("23:14", " DUE TO JOB REQUEUE"), "job requeue"),
        (JOB.format("23:14", " DUE TO TIME LIMIT"), "time limit"),
        (JOB.format("23:14", ""), "cancelled"),
        (STEP.format(""), ""),  # a signal to the tasks alone, as the one ahead of the time limit: the job goes on
        (JOB.format("20:00", " DUE TO PREEMPTION"), ""),  # when it had been started earlier
        (JOB.format("20:00", " DUE TO PREEMPTION") + STEP.format("") + JOB.format("23:14", ""), "cancelled"),
        (JOB.format("xx:yy", ""), ""),
        ("a rank says: " + JOB.format("23:14", ""), ""),
        ("", ""),
    ],
)
def test_why_a_job_was_ended(tmp_path: Path, text: str, expected: str) -> None:
    log = tmp_path / "15.log"
    log.write_bytes(b"\xff" * 100_000 + b"\n" + text.encode() + b"the last line")
    assert why_ended({LOG: str(log)}, NOW) == expected


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    assert why_ended({}, NOW) == why_ended({LOG: str(tmp_path / "none")}, NOW) == ""
