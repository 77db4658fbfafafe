"""Ranks on several nodes may import different files."""

from __future__ import annotations

import dataclasses

from bench.messages.rank_record import RankRecord
from bench.plan.code_key import Source
from bench.runner.launched import unlike_code


def record(rank: int, *sources: Source) -> RankRecord:
    return dataclasses.replace(RankRecord(rank, 0, "n", 1, True), code=list(sources))


def test_a_module_that_differs_is_named() -> None:
    mine, layers = Source("mine", "/a/mine.py", "1"), Source("layers", "/a/layers.py", "2")
    same = {0: record(0, mine, layers), 1: record(1, dataclasses.replace(mine, file="/b/mine.py"), layers)}
    assert unlike_code(same) == []
    other = {**same, 2: record(2, mine, dataclasses.replace(layers, digest="3")), 3: record(3, mine)}
    assert unlike_code(other) == ["ranks trained different code: layers of rank 0 is not that of rank 2"]
