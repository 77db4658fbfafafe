"""What ``--strategy`` says, and the table behind it."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path

import pytest

import bench.strategies
from bench.errors import EXIT_USAGE, UsageError
from bench.plan.strategies import ONE_PROCESS, STRATEGIES, Choice
from bench.plan.strategy_spec import StrategySpec, parse_strategy

TENSOR = {"tp": "1", "loss-parallel": "off"}
PIPELINE = {"pp": "1", "schedule": "gpipe"}
OF_DDP = {"bucket-mb": "25", "static-graph": "off", "find-unused": "off", "bucket-view": "off", "hook": "none"}
DDP = OF_DDP | TENSOR | PIPELINE
FSDP = {"reshard": "on", "replicate": "1", "offload": "off", "reduce": "own"} | TENSOR | PIPELINE


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("single", "single", {}),
        ("dp", "dp", {}),
        ("ddp", "ddp", DDP),
        ("fsdp", "fsdp", FSDP),
        ("ddp:bucket-mb=1", "ddp", {**DDP, "bucket-mb": "1"}),
        ("ddp:hook=fp16:bucket-view=on", "ddp", {**DDP, "hook": "fp16", "bucket-view": "on"}),
        ("ddp:static-graph=on", "ddp", {**DDP, "static-graph": "on"}),
        ("fsdp:reshard=2", "fsdp", {**FSDP, "reshard": "2"}),
        ("fsdp:replicate=4:offload=cpu:reduce=bf16", "fsdp", {**FSDP, "replicate": "4", "offload": "cpu", "reduce": "bf16"}),
        ("fsdp:reshard=on:reshard=off", "fsdp", {**FSDP, "reshard": "off"}),  # the last word holds
    ],
)  # fmt: skip
def test_name_and_a_value_for_every_option(text: str, name: str, options: dict[str, str]) -> None:
    assert parse_strategy(text) == StrategySpec(name, options)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("ddp:bucket-mb=25", "ddp"),
        ("ddp:bucket-mb=025", "ddp"),
        ("ddp:static-graph=off:bucket-view=off:hook=none", "ddp"),
        ("fsdp:replicate=1:reshard=on:reduce=own:offload=off", "fsdp"),
        ("fsdp:reduce=bf16:reshard=4", "fsdp:reshard=4:reduce=bf16"),  # the order of the table
        ("fsdp:reshard=02", "fsdp:reshard=2"),
        ("fsdp:replicate=01", "fsdp"),
        ("fsdp:reshard=off:reshard=on", "fsdp"),
        ("fsdp:tp=02:replicate=2", "fsdp:replicate=2:tp=2"),
        ("ddp:tp=1", "ddp"),
        ("fsdp:replicate=123456789012345678901234567890", "fsdp:replicate=123456789012345678901234567890"),
    ],
)
def test_text_has_what_differs_from_the_defaults_in_one_way(text: str, spec: str) -> None:
    assert parse_strategy(text).spec == spec


def specs(name: str, **values: tuple[str, ...]) -> list[str]:
    """A spec for every point of the product."""
    flags = [option.replace("_", "-") for option in values]
    return [":".join([name, *map("=".join, zip(flags, point, strict=True))]) for point in itertools.product(*values.values())]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "count"),
    [
        # 2 x 2 x 2 x 3
        (specs("ddp", bucket_mb=("25", "7"), static_graph=("on", "off"), find_unused=("on", "off"), bucket_view=("on", "off"), hook=("none", "fp16", "bf16")), 48),
        # 4 x 2 x 2 x 3
        (specs("fsdp", reshard=("on", "off", "2", "3"), replicate=("1", "2"), offload=("off", "cpu"), reduce=("own", "fp32", "bf16")), 48),
    ],
)  # fmt: skip
def test_every_value_is_taken_and_no_two_points_have_one_text(given: list[str], count: int) -> None:
    parsed = [parse_strategy(text) for text in given]
    texts = [spec.spec for spec in parsed]
    assert len(set(texts)) == len(given) == count
    assert [parse_strategy(text) for text in texts] == parsed
    assert [parse_strategy(text).spec for text in texts] == texts


IN_DDP = "bucket-mb, static-graph, find-unused, bucket-view, hook, tp, loss-parallel, pp, schedule"
IN_FSDP = "reshard, replicate, offload, reduce, tp, loss-parallel, pp, schedule"


@pytest.mark.parametrize(
    ("text", "option", "given", "allowed", "hint"),
    [
        ("", None, "", "single, dp, ddp, zero1, fsdp", None),
        (":", None, "", "single, dp, ddp, zero1, fsdp", None),
        ("fsdp2", None, "fsdp2", "single, dp, ddp, zero1, fsdp", "Did you mean 'fsdp'?"),
        ("fsdp,ddp", None, "fsdp,ddp", "single, dp, ddp, zero1, fsdp", "Did you mean 'fsdp'?"),
        (" ddp", None, " ddp", "single, dp, ddp, zero1, fsdp", "Did you mean 'ddp' or 'dp'?"),
        ("fsdp=off", None, "fsdp=off", "single, dp, ddp, zero1, fsdp", "Did you mean 'fsdp'?"),
        ("single:gpus=1", "single", "gpus", "no options", None),
        ("dp:bucket-mb=1", "dp", "bucket-mb", "no options", None),
        ("ddp:reshard=on", "ddp", "reshard", f"the options {IN_DDP}", None),
        ("ddp:bucket_mb=1", "ddp", "bucket_mb", f"the options {IN_DDP}", "Did you mean 'bucket-mb' or 'bucket-view'?"),
        ("ddp:", "ddp", "", f"the options {IN_DDP}", None),
        ("fsdp::reshard=on", "fsdp", "", f"the options {IN_FSDP}", None),
        ("fsdp: reshard=on", "fsdp", " reshard", f"the options {IN_FSDP}", "Did you mean 'reshard'?"),
        ("fsdp:Reshard=on", "fsdp", "Reshard", f"the options {IN_FSDP}", "Did you mean 'reshard'?"),
        ("fsdp:=on", "fsdp", "", f"the options {IN_FSDP}", None),
        ("ddp:tp=0", "ddp:tp", "0", "a whole number from 1", None),
        ("ddp:loss-parallel=yes", "ddp:loss-parallel", "yes", "on, off", None),
        ("zero1:tp=2", "zero1", "tp", "the options bucket-mb, static-graph, find-unused, bucket-view, hook", None),
        ("fsdp:reshard", "fsdp:reshard", "", "on, off, a whole number from 2", None),
        ("fsdp:reshard=", "fsdp:reshard", "", "on, off, a whole number from 2", None),
        ("fsdp:reshard=1", "fsdp:reshard", "1", "on, off, a whole number from 2", None),
        ("fsdp:reshard=01", "fsdp:reshard", "01", "on, off, a whole number from 2", None),
        ("fsdp:reshard=0", "fsdp:reshard", "0", "on, off, a whole number from 2", None),
        ("fsdp:reshard=2.0", "fsdp:reshard", "2.0", "on, off, a whole number from 2", None),
        ("fsdp:reshard=１２", "fsdp:reshard", "１２", "on, off, a whole number from 2", None),
        ("fsdp:reshard= off", "fsdp:reshard", " off", "on, off, a whole number from 2", None),
        ("fsdp:reshard=on=off", "fsdp:reshard", "on=off", "on, off, a whole number from 2", None),
        ("fsdp:reshard=off:reshard=x", "fsdp:reshard", "x", "on, off, a whole number from 2", None),
        ("fsdp:replicate=0", "fsdp:replicate", "0", "a whole number from 1", None),
        ("fsdp:replicate=-1", "fsdp:replicate", "-1", "a whole number from 1", None),
        ("fsdp:replicate=+2", "fsdp:replicate", "+2", "a whole number from 1", None),
        ("fsdp:replicate=1_0", "fsdp:replicate", "1_0", "a whole number from 1", None),
        ("fsdp:replicate=on", "fsdp:replicate", "on", "a whole number from 1", None),
        ("fsdp:offload=on", "fsdp:offload", "on", "off, cpu", None),
        ("fsdp:reduce=fp16", "fsdp:reduce", "fp16", "own, fp32, bf16", None),
        ("ddp:bucket-mb=0", "ddp:bucket-mb", "0", "a whole number from 1", None),
        ("ddp:bucket-mb=²", "ddp:bucket-mb", "²", "a whole number from 1", None),
        ("ddp:static-graph=true", "ddp:static-graph", "true", "on, off", None),
        ("ddp:bucket-view", "ddp:bucket-view", "", "on, off", None),
        ("ddp:hook=fp32", "ddp:hook", "fp32", "none, fp16, bf16", None),
    ],
)  # fmt: skip
def test_anything_else_is_told_with_what_is_allowed(
    text: str, option: str | None, given: str, allowed: str, hint: str | None
) -> None:
    with pytest.raises(UsageError) as raised:
        parse_strategy(text)
    error = raised.value
    assert (error.option, error.given, error.allowed, error.hint) == (option, given, allowed, hint)
    assert error.exit_code == EXIT_USAGE


def test_number_longer_than_python_reads_is_told_like_any_other() -> None:
    long = "9" * 5000  # int() gives up at 4300 digits
    with pytest.raises(UsageError) as raised:
        parse_strategy(f"fsdp:reshard={long}")
    assert (raised.value.option, raised.value.given) == ("fsdp:reshard", long)
    assert raised.value.allowed == "on, off, a whole number from 2"


def test_choice_is_of_words_or_of_numbers_from_a_minimum() -> None:
    both, words, numbers = Choice("", "a", ("a", "b"), 2), Choice("", "a", ("a", "b")), Choice("", "3", minimum=0)
    assert (both.allowed, words.allowed) == ("a, b, a whole number from 2", "a, b")
    assert numbers.allowed == "a whole number from 0"
    assert [both.allows(text) for text in ("a", "c", "2", "1", "", "-2")] == [True, False, True, False, False, False]
    assert [words.allows(text) for text in ("b", "2", "")] == [True, False, False]
    assert [numbers.allows(text) for text in ("0", "00", "a", "")] == [True, True, False, False]


@pytest.mark.parametrize("name", STRATEGIES)
def test_default_of_every_option_may_be_given(name: str) -> None:
    assert [choice.allows(choice.default) for choice in STRATEGIES[name].options.values()] == [True] * len(
        STRATEGIES[name].options
    )


def test_every_strategy_has_its_file_with_all_that_a_rank_asks_of_it() -> None:
    files = {path.stem for path in Path(bench.strategies.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == set(STRATEGIES) == {"single", "dp", "ddp", "zero1", "fsdp"}
    modules = {name: importlib.import_module(f"bench.strategies.{name}") for name in STRATEGIES}
    for asked in ("apply", "gradient_sync", "forward_is_local"):
        assert [name for name, module in modules.items() if not callable(getattr(module, asked, None))] == []
    assert [name for name, module in modules.items() if module.OWN_PRECISION] == ["fsdp"]
    assert set(ONE_PROCESS) == {"single", "dp"}
