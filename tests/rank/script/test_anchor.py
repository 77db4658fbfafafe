"""Which optimizer's updates are the steps."""

from __future__ import annotations

import pytest

from bench.rank.script.anchor import PATIENCE, Anchor

ADAM, SGD, NEVER = 1, 2, 3


def ends(anchor: Anchor, updates: str) -> str:
    """The updates that end a step in capitals: ``a`` of ADAM, ``s`` of SGD."""
    return "".join(one.upper() if anchor.updated({"a": ADAM, "s": SGD}[one]) else one for one in updates)


def anchor_of(*built: int, least: int = 3) -> Anchor:
    anchor = Anchor(least)
    for key in built:
        anchor.built(key)
    return anchor


@pytest.mark.parametrize(
    ("updates", "expected", "chosen"),
    [
        ("aaaaa", "AAAAA", ADAM),
        ("asasasasas", "aSaSaSaSaS", SGD),  # as many of both: the last one
        ("sasasasasa", "sAsAsAsAsA", ADAM),
        ("aaasaaasaaasaaasaaas", "aaaSaaaSaaaSaaaSaaaS", SGD),  # a critic, three times as often
    ],
)
def test_the_optimizer_that_is_updated_least_often_makes_the_steps(updates: str, expected: str, chosen: int) -> None:
    anchor = anchor_of(*({ADAM, SGD} if "s" in updates else {ADAM}))
    assert ends(anchor, updates) == expected
    assert anchor.key == chosen
    assert anchor.steps == sum(one.isupper() for one in expected)


def test_the_rare_one_that_comes_first_is_found_as_well() -> None:
    """Before the second cycle nothing tells that both are not updated in turns."""
    anchor = anchor_of(ADAM, SGD)
    ends(anchor, "saaa" * 4)
    assert anchor.key == SGD
    assert anchor.steps == 4
    assert ends(anchor, "saaasaaa") == "SaaaSaaa"


def test_an_optimizer_that_is_never_updated_does_not_hold_up_the_others() -> None:
    anchor = anchor_of(ADAM, NEVER)
    assert ends(anchor, "a" * (PATIENCE + 2)) == "a" * (PATIENCE - 1) + "AAA"


def test_an_optimizer_that_comes_late_is_told() -> None:
    anchor = anchor_of(ADAM)
    ends(anchor, "a" * 30 + "s" + "a" * 10 + "s")
    assert anchor.key == ADAM
    assert anchor.late() == [(SGD, 2)]
    assert anchor_of(ADAM, SGD).steps == 0
