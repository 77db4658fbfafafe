"""The text of an error is made of its fields, in one place."""

from __future__ import annotations

import pytest

from bench.errors import EXIT_FAILED, EXIT_USAGE, BenchError, ResultsError, UsageError, did_you_mean, quoted


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BenchError(option="--gpus", given="0", allowed="a number"), "--gpus: got '0'; allowed: a number."),
        (BenchError(given=None, allowed="a path", hint="Give one."), "got None; allowed: a path. Give one."),
        (BenchError("there is no GPU"), "there is no GPU"),
        (BenchError("there is no GPU", hint="Add --device cpu."), "there is no GPU. Add --device cpu."),
        (BenchError("it cannot run.", hint="Leave it out."), "it cannot run. Leave it out."),
        (BenchError("it cannot run", hint=""), "it cannot run"),
    ],
)
def test_text(error: BenchError, text: str) -> None:
    assert str(error) == text


def test_a_place_comes_before_text_and_option() -> None:
    inner = UsageError(given="x", allowed="on, off", hint="Try on.")
    outer = inner.at("suite.toml: matrix[0].pin_memory").at("--b")
    assert type(outer) is UsageError
    assert outer.exit_code == EXIT_USAGE
    assert outer.option == "--b: suite.toml: matrix[0].pin_memory"
    assert (outer.given, outer.allowed, outer.hint) == ("x", "on, off", "Try on.")
    assert str(outer) == "--b: suite.toml: matrix[0].pin_memory: got 'x'; allowed: on, off. Try on."


def test_another_class_takes_the_fields() -> None:
    error = UsageError(option="steps", given=0, allowed="a whole number from 2", hint="Give more.")
    other = ResultsError(error.message, **error.fields)
    assert (str(other), other.fields, other.exit_code) == (str(error), error.fields, EXIT_FAILED)


def test_a_long_value_is_cut_in_the_text_alone() -> None:
    error = UsageError(option="--seed", given="9" * 5000, allowed="a whole number")
    assert error.given == "9" * 5000
    assert len(str(error)) < 250
    assert quoted(10**5000) == "a number of 16,610 bits"  # 5000 x log2(10) = 16609.6


def test_a_name_that_is_close_is_proposed() -> None:
    assert did_you_mean("dpp", ["single", "ddp"]) == "Did you mean 'ddp'?"
    assert did_you_mean("xyz", ["single", "ddp"]) == ""
