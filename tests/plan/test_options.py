"""The table of axes and settings."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
import shlex

import pytest

from bench.errors import EXIT_USAGE, UsageError
from bench.plan.case import Case
from bench.plan.options import AXES, PRECISIONS, RESERVED, SETTINGS, Option, Value, read_axis, show, split_list

OPTIONS = [*AXES.values(), *SETTINGS.values()]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_default_as_text_reads_back_as_the_default(option: Option) -> None:
    if option.default is not None:
        read = option.read(show(option.default), option.flag)
        assert (read, type(read)) == (option.default, type(option.default))


def test_flag_has_dashes() -> None:
    assert AXES["activation_checkpointing"].flag == "--activation-checkpointing"


def test_a_case_has_a_field_for_every_axis_with_the_same_default() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(Case)}
    assert set(fields) == {*AXES, "oversubscribe", "fake_ranks", "auto_batch"}
    given = {name: default for name, default in fields.items() if default is not dataclasses.MISSING}
    assert {name: AXES[name].default for name in given if name in AXES} == {
        "activation_offload": "none",
        "attention": "auto",
        "compile": "off",
        "compile_scope": None,
        "save_checkpoint": "none",
        "grad_accum_steps": 1,
        "max_grad_norm": 0.0,
        "optimizer": "adamw",
        "lr_scheduler": "none",
        "init": "cpu",
        "channels_last": False,
        "deterministic": False,
        "cudnn_benchmark": True,
        "numa_binding": "off",
        "placement": "pack",
        "env": "",
        "args": "",
    }
    assert given == {
        **{name: AXES[name].default for name in given if name in AXES},
        "oversubscribe": False,
        "fake_ranks": False,
        "auto_batch": False,
    }


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("gpus", "it depends"),
        ("batch_size", "it depends"),
        ("strategy", "ddp"),
        ("grad_accum_steps", "1"),
        ("max_grad_norm", "0.0"),
        ("channels_last", "off"),
        ("cudnn_benchmark", "on"),
        ("env", "none"),
    ],
)
def test_default_is_shown_as_it_would_be_typed(name: str, shown: str) -> None:
    assert AXES[name].shown_default == shown


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("gpus", "8", 8),
        ("gpus", " 8 ", 8),
        ("gpus", 8, 8),
        ("pin_memory", "off", False),
        ("pin_memory", False, False),  # TOML's own
        ("persistent_workers", True, True),
        ("data", "folder=/a=b/c d", "folder=/a=b/c d"),
        ("data", "text=demo", "text=demo"),
        ("num_workers", "0", 0),
        ("workload", "gpt:layers=4", "gpt"),  # 4 is the default
        ("strategy", " fsdp:reduce=bf16:reshard=02 ", "fsdp:reshard=2:reduce=bf16"),
        ("strategy", "ddp:bucket-mb=25", "ddp"),  # the default
        ("precision", "tf32", "tf32"),
        ("precision", "amp-fp16", "amp-fp16"),
        ("precision", "bf16", "bf16"),
        ("activation_checkpointing", "selective", "selective"),
        ("activation_checkpointing", "every=2", "every=2"),
        ("activation_checkpointing", "every=002", "every=2"),
        ("activation_checkpointing", "every=1", "full"),
        ("activation_checkpointing", "every=01", "full"),
        ("compile", "max-autotune", "max-autotune"),
        ("compile", "default", "default"),
        ("compile", False, "off"),
        ("grad_accum_steps", "3", 3),
        ("grad_accum_steps", "３", 3),  # Python's own reading of digits, as for all numbers
        ("max_grad_norm", "1", 1.0),
        ("max_grad_norm", 1, 1.0),
        ("max_grad_norm", "1e-2", 0.01),
        ("max_grad_norm", 0, 0.0),
        ("optimizer", "sgd", "sgd"),
        ("channels_last", "on", True),
        ("deterministic", True, True),
        ("cudnn_benchmark", "off", False),
        ("numa_binding", "core-complex", "core-complex"),
        ("numa_binding", False, "off"),
        ("data", "criteo=demo", "criteo=demo"),
        ("env", "", ""),
        ("env", "B=2 A=1", "A=1 B=2"),
    ],
)
def test_axis_reads_text_and_toml(name: str, given: object, value: Value) -> None:
    read = AXES[name].read(given, "here")
    assert (read, type(read)) == (value, type(value))


def test_seconds_are_floats_however_written() -> None:
    for given in ("120", 120, 120.0, "1.2e2"):
        read = SETTINGS["timeout"].read(given, "here")
        assert (read, type(read)) == (120.0, float)


CHECKPOINTING = "none, full, selective, every=N"
DATA = "resident, synthetic, folder=PATH, text=PATH, mnist=PATH, criteo=PATH (PATH may be demo)"


@pytest.mark.parametrize(
    ("name", "given", "allowed", "hint"),
    [
        ("strategy", "dpp", "single, dp, ddp, zero1, fsdp", "Did you mean 'dp' or 'ddp'?"),
        ("strategy", "", "single, dp, ddp, zero1, fsdp", None),
        ("precision", "amp-bf61", ", ".join(PRECISIONS), "Did you mean 'amp-bf16' or 'amp-fp16'?"),
        ("gpus", "0", "a whole number from 1, all, 1..N, 1..all", None),
        ("gpus", "two", "a whole number from 1, all, 1..N, 1..all", None),
        ("gpus", 2.5, "a whole number from 1, all, 1..N, 1..all", None),
        ("gpus", True, "a whole number from 1, all, 1..N, 1..all", None),
        ("gpus", [1], "a whole number from 1, all, 1..N, 1..all", None),
        ("gpus", None, "a whole number from 1, all, 1..N, 1..all", None),
        ("seed", "-1", "a whole number from 0", None),
        ("pin_memory", "yes", "on, off", None),
        ("data", "folder", DATA, "folder takes a path."),
        ("data", "text=", DATA, "text takes a path."),
        ("data", "resident=/a", DATA, "resident takes no path."),
        ("data", "fodler=/a", DATA, "Did you mean 'folder'?"),
        ("steps", "1", "a whole number from 2", None),
        ("timeout", "nan", "seconds from 1", None),
        ("timeout", "inf", "seconds from 1", None),
        ("timeout", 0.5, "seconds from 1", None),
        ("precision", "fp16", ", ".join(PRECISIONS), "Did you mean 'bf16' or 'amp-fp16'?"),
        ("precision", "", ", ".join(PRECISIONS), None),
        ("activation_checkpointing", "Full", CHECKPOINTING, "Did you mean 'full'?"),
        ("activation_checkpointing", "2", CHECKPOINTING, None),
        ("activation_checkpointing", "", CHECKPOINTING, None),
        ("activation_checkpointing", False, CHECKPOINTING, None),
        ("compile", "on", "off, default, max-autotune", None),
        ("compile", True, "off, default, max-autotune", None),
        ("compile", "max_autotune", "off, default, max-autotune", "Did you mean 'max-autotune'?"),
        ("grad_accum_steps", "0", "a whole number from 1", None),
        ("grad_accum_steps", 2.0, "a whole number from 1", None),
        ("grad_accum_steps", "", "a whole number from 1", None),
        ("max_grad_norm", "nan", "a number from 0", None),
        ("max_grad_norm", math.nan, "a number from 0", None),
        ("max_grad_norm", "inf", "a number from 0", None),
        ("max_grad_norm", "1e400", "a number from 0", None),
        ("max_grad_norm", "-0.1", "a number from 0", None),
        ("max_grad_norm", True, "a number from 0", None),
        ("optimizer", "adams", "adamw, sgd, adam, rmsprop, adafactor, muon", "Did you mean 'adam' or 'adamw'?"),
        ("channels_last", "true", "on, off", None),
        ("deterministic", 1, "on, off", None),
        ("cudnn_benchmark", "", "on, off", None),
        ("numa_binding", "core", "off, node, socket, exclusive, core-complex", None),
        ("numa_binding", True, "off, node, socket, exclusive, core-complex", None),
        ("launcher", "servre", "server, torchrun", "Did you mean 'server'?"),
    ],
)  # fmt: skip
def test_an_error_names_the_place_the_value_and_what_is_allowed(
    name: str, given: object, allowed: str, hint: str | None
) -> None:
    with pytest.raises(UsageError) as raised:
        {**AXES, **SETTINGS}[name].read(given, "here")
    error = raised.value
    assert (error.option, error.allowed, error.hint) == ("here", allowed, hint)
    assert error.given is given
    assert error.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("resident", ["resident"]),
        ("resident,synthetic", ["resident", "synthetic"]),
        ("folder=/a,b,text=/c", ["folder=/a,b", "text=/c"]),
        ("folder=/a,b", ["folder=/a,b"]),
        ("text=/c,resident,folder=demo", ["text=/c", "resident", "folder=demo"]),
        ("mnist=demo,criteo=/a,b,synthetic", ["mnist=demo", "criteo=/a,b", "synthetic"]),
        ("folder=/a,mnist", ["folder=/a,mnist"]),  # no kind without its path
        ("folder=/a,residents", ["folder=/a,residents"]),  # not a kind: of the path
        ("folder=/a,synthetic/b", ["folder=/a,synthetic/b"]),
        ("resident,synthetik", ["resident,synthetik"]),  # left whole, so that the message shows it
    ],
)
def test_comma_in_a_path_of_data_splits_nothing_unless_a_kind_follows(text: str, values: list[str]) -> None:
    assert split_list("data", text) == values


def test_comma_splits_all_other_lists() -> None:
    assert split_list("workload", "gpt:layers=4:width=256,resnet18") == ["gpt:layers=4:width=256", "resnet18"]
    assert split_list("gpus", "1,2,4") == ["1", "2", "4"]
    assert split_list("strategy", "fsdp:reshard=off,ddp") == ["fsdp:reshard=off", "ddp"]


def test_values_are_shown_as_they_are_typed() -> None:
    assert [show(value) for value in (True, False, None, 3, 0.5, "ddp")] == ["on", "off", "", "3", "0.5", "ddp"]


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("data", "resident=", f"here: got 'resident='; allowed: {DATA}. resident takes no path."),
        ("strategy", "dpp", "here: got 'dpp'; allowed: single, dp, ddp, zero1, fsdp. Did you mean 'dp' or 'ddp'?"),
        ("strategy", "fsdp:offload=on", "here: fsdp:offload: got 'on'; allowed: off, cpu."),
        ("workload", "gpt:layers", "here: gpt: got 'layers'; allowed: option=value."),
    ],
)
def test_the_text_of_an_error_is_made_of_its_fields(name: str, given: str, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        AXES[name].read(given, "here")
    assert str(raised.value) == text


def test_a_comma_in_a_workload() -> None:
    with pytest.raises(UsageError) as raised:
        AXES["workload"].read("m.py:N:x=1,2", "here")
    assert (raised.value.option, raised.value.hint) == ("here", "A comma separates workloads.")


def test_a_number_of_any_length_is_compared() -> None:
    with pytest.raises(UsageError) as raised:
        AXES["seed"].read("9" * 400, "--seed")
    assert (raised.value.allowed, raised.value.hint) == ("a whole number from 0", "At most 4,294,967,295.")
    with pytest.raises(UsageError):
        AXES["gpus"].read("-" + "9" * 400, "--gpus")


NUMBERS = [option for option in OPTIONS if option.most is not None]


def test_every_number_has_an_upper_bound() -> None:
    for option in OPTIONS:
        for text in ("2", "2.5", "2s"):
            with contextlib.suppress(UsageError):
                if isinstance(option.read(text, option.flag), (int, float)):
                    assert option.most is not None, option.name


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
def test_the_largest_number_is_allowed_and_no_larger_one(option: Option) -> None:
    assert option.most is not None
    most = int(option.most)
    assert option.read(str(most), option.flag) == most
    bound = f"allowed: {re.escape(option.allowed)}. At most {re.escape(f'{option.most:,}')}"
    for above in (most + 1 if most < 2**53 else 2 * most, 2**63 + most, 2**64, 10**300):
        texts = [f"{above}s"] if option.name == "budget" else [above, str(above)]
        for given in texts:
            with pytest.raises(
                UsageError, match=bound if len(str(above)) < 9 or option.name != "budget" else "^--budget: "
            ):
                option.read(given, option.flag)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_what_is_no_value_is_told_and_no_traceback(option: Option) -> None:
    """The size of 16**5000 in decimal digits is more than Python would print."""
    # An environment without variables, arguments that are a text, and a folder.
    allowed = {"args": str, "save_dir": lambda given: os.path.abspath(str(given))}.get(option.name, lambda given: "")
    for given in (math.nan, math.inf, 16**5000, "1e400", "nan", "a\0b", "\x1b[31m", "", [], {}, 1 << 70):
        with contextlib.suppress(UsageError):
            assert option.read(given, "here") == allowed(given), given


def test_products_of_what_is_allowed_fit_a_column() -> None:
    most = [AXES[name].most for name in ("gpus", "batch_size", "grad_accum_steps")]
    assert math.prod(int(number or 0) for number in most) < 2**63


@pytest.mark.parametrize(
    "given",
    [
        "every=0",
        "every=00",
        "every=",
        "every",
        "every=-1",
        "every=+2",
        "every=2.0",
        "every= 2",
        "every=1_0",
        "every=２",
    ],
)
def test_every_takes_a_whole_number_from_one(given: str) -> None:
    with pytest.raises(UsageError) as raised:
        AXES["activation_checkpointing"].read(given, "here")
    assert (raised.value.given, raised.value.allowed) == (given, CHECKPOINTING)
    assert raised.value.hint == "Did you mean 'every=N'?"


@pytest.mark.parametrize("given", ["every=every=2", "xevery=2", "full=2", "selective=2", "none=1", "2every="])
def test_nothing_stands_around_a_word_of_checkpointing(given: str) -> None:
    with pytest.raises(UsageError) as raised:
        AXES["activation_checkpointing"].read(given, "here")
    assert (raised.value.given, raised.value.allowed) == (given, CHECKPOINTING)


def test_the_letter_of_every_is_no_number_and_not_what_was_meant() -> None:
    with pytest.raises(UsageError) as raised:
        AXES["activation_checkpointing"].read("every=N", "here")
    assert raised.value.hint is None


@pytest.mark.parametrize(
    ("name", "before", "allowed"),
    [
        ("activation_checkpointing", "every=", CHECKPOINTING),
        ("grad_accum_steps", "", "a whole number from 1"),
    ],
)
def test_number_longer_than_python_reads_is_told_like_any_other(name: str, before: str, allowed: str) -> None:
    given = before + "9" * 5000  # int() gives up at 4300 digits
    with pytest.raises(UsageError) as raised:
        AXES[name].read(given, "here")
    assert (raised.value.given, raised.value.allowed, raised.value.hint) == (given, allowed, None)
    assert len(str(raised.value)) < 300


# -- env ----------------------------------------------------------------------------------------------------------

ENV = "NAME=VALUE, or NAME=V1|V2 for an axis"


@pytest.mark.parametrize(
    ("given", "environments"),
    [
        (["A=1"], [{"A": "1"}]),
        (["A=1|2"], [{"A": "1"}, {"A": "2"}]),
        (["A="], [{"A": ""}]),
        (["A=1|"], [{"A": "1"}, {"A": ""}]),
        (["A=x=y|="], [{"A": "x=y"}, {"A": "="}]),
        (["A=eth0,eth1"], [{"A": "eth0,eth1"}]),  # a comma is of the value
        (["A= a  b "], [{"A": " a  b "}]),
        (['A=it\'s "so" $HOME \\ `x` #;&*'], [{"A": 'it\'s "so" $HOME \\ `x` #;&*'}]),
        (["A=é→"], [{"A": "é→"}]),
        (["_a1=x"], [{"_a1": "x"}]),
        (["rank=1"], [{"rank": "1"}]),  # not RANK
        (["B=2", "A=1"], [{"A": "1", "B": "2"}]),
        (["A=1|2", "B=x|y"], [{"A": "1", "B": "x"}, {"A": "1", "B": "y"}, {"A": "2", "B": "x"}, {"A": "2", "B": "y"}]),
        (["A=1", "B=", "C=2|3"], [{"A": "1", "B": "", "C": "2"}, {"A": "1", "B": "", "C": "3"}]),
    ],
)
def test_variables_make_a_product_and_their_values_stay_as_they_are(
    given: list[object], environments: list[dict[str, str]]
) -> None:
    read = read_axis("env", given, "here")
    assert [dict(word.split("=", 1) for word in shlex.split(str(text))) for text in read] == environments
    assert [AXES["env"].read(text, "here") for text in read] == read  # a row's own text reads back


def test_environment_is_quoted_for_a_shell_with_sorted_names() -> None:
    assert read_axis("env", ["NCCL_ALGO=Ring", "A=a b", "C="], "here") == ["'A=a b' C= NCCL_ALGO=Ring"]
    # by name, whatever the values
    assert read_axis("env", ["AA=1", "A=~"], "here") == ["'A=~' AA=1"]


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (["A"], "'A'"),
        ([""], "''"),
        (["="], "'='"),
        (["=x"], "'=x'"),
        (["1A=x"], "'1A=x'"),
        (["A-B=x"], "'A-B=x'"),
        (["A.B=x"], "'A.B=x'"),
        ([3], "3"),
        (["A=1", "B"], "'B'"),
        (["|A=1"], "\"'|A=1'\""),
        ([" A=1"], "\"' A=1'\""),
        (["A =1"], "\"'A =1'\""),
        (["é=1"], "\"'é=1'\""),
        (["A１=1"], "\"'A１=1'\""),
        (["A=1\n"], "\"'A=1\\n'\""),  # what no shell's line and no row of CSV should hold
        (["A=\t"], "\"'A=\\t'\""),
        (["A=\0"], "\"'A=\\x00'\""),
        (["A=\udc80"], "\"'A=\\udc80'\""),
        (["A=1|\n"], "\"'A=\\n'\""),
    ],
)
def test_what_is_no_variable_is_told(given: list[object], got: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_axis("env", given, "here")
    assert (raised.value.option, repr(raised.value.given), raised.value.allowed) == ("here", got, ENV)


@pytest.mark.parametrize("given", ["A='1", "A=1 B", "1=A", "A=1 =2"])
def test_text_of_an_environment_is_checked_as_well(given: str) -> None:
    with pytest.raises(UsageError) as raised:
        AXES["env"].read(given, "here")
    assert (raised.value.option, raised.value.given, raised.value.allowed) == ("here", given, ENV)


WHY_RESERVED = {
    "OMP_NUM_THREADS": "use --omp-num-threads",
    "CUDA_VISIBLE_DEVICES": "set it for bench itself",
    "RANK": "the launcher sets it",
    "LOCAL_RANK": "the launcher sets it",
    "WORLD_SIZE": "the launcher sets it",
    "LOCAL_WORLD_SIZE": "the launcher sets it",
    "MASTER_ADDR": "the launcher sets it",
    "MASTER_PORT": "the launcher sets it",
    "PYTHONSAFEPATH": "the launcher sets it",
    "TMPDIR": "the launcher sets it",
}


@pytest.mark.parametrize("name", WHY_RESERVED)
def test_variable_that_is_not_the_users_to_set_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_axis("env", ["B=1", f"{name}=0"], "here")
    assert (raised.value.given, raised.value.allowed) == (f"B=1 {name}=0", ENV)
    assert raised.value.hint == f"{name} cannot be set here: {WHY_RESERVED[name]}."
    assert set(WHY_RESERVED) <= set(RESERVED)


def test_variable_given_twice_is_told_how_to_give_both_values() -> None:
    for given in (["B=1", "A=1", "A=2"], ["A=1", "B=1", "A=1"], ["B=1", "B=2", "A=1", "A="]):
        with pytest.raises(UsageError) as raised:
            read_axis("env", given, "here")
        assert (raised.value.option, raised.value.given) == ("here", given)
        assert raised.value.hint == "Give its values together: A=V1|V2."


def test_other_axes_are_read_value_by_value() -> None:
    assert read_axis("seed", ["1", 2, " 3 "], "here") == [1, 2, 3]
    with pytest.raises(UsageError) as error:
        read_axis("seed", [1, "x"], "matrix[0].seed")
    assert str(error.value) == "matrix[0].seed: got 'x'; allowed: a whole number from 0."
