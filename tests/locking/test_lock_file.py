"""Locks as files: what is written is read again, and what is wrong is said with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError, IncomparableError, UsageError
from bench.locking.lock_file import FORMAT, Lock, LockedCase, read

CASE = LockedCase(
    {"workload": 'my "net".py:Net', "strategy": "ddp", "gpus": 2, "device": "cpu", "batch_size": 8},
    {
        ("backward", "collectives", "all-reduce ×2 float32"): (1, 1),
        ("forward", "operations", "addmm float32"): (7, 9),
        ("step", "memory", "parameters"): (51360, 51360),
    },
)
LOCK = Lock("2.14.1", {"a-1": CASE})


def written(folder: Path, text: str) -> Path:
    file = folder / "bench.lock"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_lock_reads_back_as_it_was_written(tmp_path: Path) -> None:
    found = read(written(tmp_path, LOCK.text()))
    assert found == LOCK
    assert found.text() == LOCK.text()


def test_the_text_is_sorted_and_has_a_head() -> None:
    lines = LOCK.text().splitlines()
    assert lines[0] == "# The work of one training step of each case, counted: no times. Commit this file."
    tables = [line for line in lines if line.startswith("[cases.")]
    assert tables == [
        "[cases.a-1.axes]",
        "[cases.a-1.forward.operations]",
        "[cases.a-1.backward.collectives]",
        "[cases.a-1.step.memory]",
    ]
    assert '"all-reduce ×2 float32" = 1' in lines
    assert 'workload = "my \\"net\\".py:Net"' in lines


def test_a_tolerance_is_kept(tmp_path: Path) -> None:
    found = read(written(tmp_path, LOCK.text().replace("memory = 0.0", "memory = 0.02")))
    assert found.tolerance == {"operations": 0, "collectives": 0, "bytes": 0, "memory": 0.02, "flops": 0}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("parameters = 51360", "parameters = -1", "bench.lock, line 33: parameters: got -1; allowed: a whole number"),
        ("parameters = 51360", 'parameters = "many"', "line 33: parameters: got 'many'"),
        ("parameters = 51360", "parameters = [2, 1]", "line 33: parameters: got [2, 1]"),
        ("parameters = 51360", "parameters = true", "line 33: parameters: got True"),
        ("parameters = 51360", f"parameters = {2**63}", "line 33: parameters: got 9223372036854775808"),
        (
            "[cases.a-1.step.memory]",
            "[cases.a-1.later.memory]",
            "line 32: later: got {'memory': {'parameters': 51360}}; allowed: a part",
        ),
        ("memory = 0.0", "memory = -0.1", "line 13: memory: got -0.1; allowed: a share from 0 to 10"),
        ("memory = 0.0", "speed = 0.1", "speed: got 0.1; allowed: a tolerance of operations, collectives"),
        ('strategy = "ddp"', 'flavour = "ddp"', "flavour: got 'ddp'; allowed: an axis"),
        ("[cases.a-1.axes]", "[cases.a-1.other]", "line 16: axes: got None; allowed: a table"),
        ("gpus = 2", 'gpus = "two"', "gpus: got 'two'; allowed: a whole number from 1"),
        ("gpus = 2", 'gpus = "1..4"', "gpus: got '1..4'; allowed: a whole number from 1"),
        ("gpus = 2", "gpus = true", "gpus: got True; allowed: a whole number from 1"),
        ("gpus = 2", "", "axes: got {"),
        ("gpus = 2", "fake_ranks = 2", "allowed: a table without device, as it has fake_ranks"),
        ('gpus = 2\ndevice = "cpu"', "fake_ranks = 1", "fake_ranks: got 1; allowed: a whole number from 2"),
        ('device = "cpu"', "device = 1", "device: got 1; allowed: auto, cuda, cpu"),
        ('strategy = "ddp"', 'strategy = ["ddp"]', "strategy: got ['ddp']; allowed: "),
        ("batch_size = 8", "batch_size = -8", "batch_size: got -8; allowed: a whole number from 1"),
        ("counting = 1", 'counting = "one"', "counting: got 'one'; allowed: a whole number"),
        ('torch = "2.14.1"', "torch = 2.14", "torch: got 2.14; allowed: the version of torch"),
        ("format = 1", "format = true", "format: got True"),
        ("format = 1", 'format = 1\nspeed = "high"', "speed: got 'high'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in LOCK.text()
    with pytest.raises(UsageError) as raised:
        read(written(tmp_path, LOCK.text().replace(old, new)))
    assert said in str(raised.value)
    assert "bench lock --update" in str(raised.value)


def test_what_is_no_toml_is_said_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"bench.lock: .*line 5"):
        read(written(tmp_path, LOCK.text().replace("format = 1", "format 1")))
    (tmp_path / "bench.lock").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not a text in UTF-8"):
        read(tmp_path / "bench.lock")


def test_no_lock_and_a_newer_one_are_not_comparable(tmp_path: Path) -> None:
    with pytest.raises(IncomparableError, match=r"there is no lock .*Write it first: bench lock --workload NAME"):
        read(tmp_path / "bench.lock")
    with pytest.raises(IncomparableError, match=r"newer stepbench \(format 2, this one reads 1\)") as raised:
        read(written(tmp_path, LOCK.text().replace(f"format = {FORMAT}", "format = 2")))
    assert raised.value.exit_code == 4
    assert isinstance(raised.value, BenchError)
