"""Copies of the files of ranks on another node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.messages.heartbeat import STAGE, Heartbeat
from bench.messages.rank_record import RankRecord
from bench.messages.sampling import MEASURED, tell
from bench.messages.step_profile import TRACE
from bench.nodes.mirror import FOLDER, SCRATCH, Copies, Piece, Source

LAUNCH = "0001-mlp-x4"


@pytest.fixture
def there(tmp_path: Path) -> tuple[Path, Path]:
    folder, scratch = tmp_path / "there" / LAUNCH, tmp_path / "there" / "scratch"
    folder.mkdir(parents=True)
    scratch.mkdir()
    return folder, scratch


@pytest.fixture
def here(tmp_path: Path) -> Copies:
    folder, scratch = tmp_path / "here" / LAUNCH, tmp_path / "here" / "scratch"
    folder.mkdir(parents=True)
    scratch.mkdir()
    return Copies(folder, scratch, range(2, 4))


def passed(source: Source, copies: Copies) -> list[str]:
    pieces = list(source.changes())
    for piece in pieces:
        copies.write(piece)
    return [piece.name for piece in pieces]


def test_what_ranks_write_is_there_as_well(there: tuple[Path, Path], here: Copies) -> None:
    folder, scratch = there
    source = Source(folder, scratch, range(2, 4))
    assert passed(source, here) == []
    record = RankRecord(2, 0, "h2", 77, True)
    record.write(folder)
    beat = Heartbeat(scratch, LAUNCH, 2)
    beat.beat(3, 10, 5)
    (folder / "rank2.log").write_text("one\n")
    assert passed(source, here) == ["rank2.json", "rank2.log", f"heartbeat-{LAUNCH}-2"]
    assert RankRecord.read(here.folder, 2) == record
    found = Heartbeat.read(here.scratch, LAUNCH, 2)
    assert found is not None
    assert (found.done, found.planned) == (3, 10)
    assert passed(source, here) == []

    (folder / f"rank2{TRACE}").write_bytes(b"\x1f\x8b a trace")
    assert passed(source, here) == [f"rank2{TRACE}"]
    assert (here.folder / f"rank2{TRACE}").read_bytes() == b"\x1f\x8b a trace"

    with (folder / "rank2.log").open("a") as log:
        log.write("two\n")
    beat.enter(STAGE["ending"])
    tell(scratch, LAUNCH, 3, MEASURED)
    assert passed(source, here) == ["rank2.log", f"heartbeat-{LAUNCH}-2", f"{MEASURED}-{LAUNCH}-3"]
    assert (here.folder / "rank2.log").read_text() == "one\ntwo\n"
    assert (here.scratch / f"{MEASURED}-{LAUNCH}-3").exists()


def test_a_log_that_grows_fast_loses_its_middle_and_one_that_was_cut_goes_on(
    there: tuple[Path, Path], here: Copies
) -> None:
    folder, scratch = there
    source, log = Source(folder, scratch, [2]), folder / "rank2.log"
    log.write_bytes(b"a" * 10)
    passed(source, here)
    log.write_bytes(b"a" * 10 + b"b" * (3 << 20) + b"end")
    passed(source, here)
    copy = (here.folder / "rank2.log").read_bytes()
    assert copy.startswith(b"a" * 10)
    assert copy.endswith(b"end")
    assert len(copy) == 10 + (1 << 20)
    log.write_bytes(b"short")
    passed(source, here)
    assert (here.folder / "rank2.log").read_bytes().endswith(b"endshort")


@pytest.mark.parametrize(
    "piece",
    [
        Piece(FOLDER, "rank1.json", b""),  # of another node
        Piece(FOLDER, "rank2.log", b""),  # in place of what there is
        Piece(FOLDER, "rank2.json", b"", adds=True),
        Piece(FOLDER, "spec.json", b"{}"),
        Piece(FOLDER, "../rank2.json", b""),
        Piece(FOLDER, "rank2.json\n", b""),
        Piece(FOLDER, "rank\u0662.json", b""),  # an Arabic two
        Piece(SCRATCH, "rank2.json", b""),
        Piece(SCRATCH, "heartbeat-other-2", b""),
        Piece(SCRATCH, f"heartbeat-{LAUNCH}-12", b""),
        Piece("/etc", "rank2.json", b""),
    ],
)
def test_a_follower_writes_no_other_files(here: Copies, piece: Piece) -> None:
    with pytest.raises(ValueError, match=r"a file .* that its ranks do not have"):
        here.write(piece)
    assert list(here.folder.iterdir()) == list(here.scratch.iterdir()) == []


def test_a_record_has_the_times_of_this_clock(here: Copies) -> None:
    second = 1_000_000_000
    sent = {
        "rank": 2,
        "measurement": {
            "first_step_at_ns": 50 * second,
            "window_at_ns": 60 * second,
            "bursts_at_ns": [],
            "window_ns": 7,
        },
        "failure": None,
    }
    here.write(Piece(FOLDER, "rank2.json", json.dumps(sent).encode()), ahead_ns=30 * second)
    found = json.loads((here.folder / "rank2.json").read_text())
    assert found["measurement"] == {
        **{"first_step_at_ns": 20 * second, "window_at_ns": 30 * second, "bursts_at_ns": [], "window_ns": 7}
    }
    here.write(Piece(FOLDER, "rank3.json", b'{"failure": {"time_ns": 31000000000}}'), ahead_ns=30 * second)
    assert json.loads((here.folder / "rank3.json").read_text()) == {"failure": {"time_ns": second}}
    for odd in (b"no json", b"[]", b'{"measurement": 3}', b'{"failure": {"time_ns": "x"}}'):
        here.write(Piece(FOLDER, "rank2.json", odd), ahead_ns=5)
        assert (here.folder / "rank2.json").read_bytes() == odd
