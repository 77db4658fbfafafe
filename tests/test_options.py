"""The table of axes and settings."""

from __future__ import annotations

import pytest

from bench.errors import EXIT_USAGE, UsageError
from bench.options import AXES, SETTINGS, Option, Value, show, split_list

OPTIONS = [*AXES.values(), *SETTINGS.values()]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_default_as_text_reads_back_as_the_default(option: Option) -> None:
    if option.default is not None:
        read = option.read(show(option.default), option.flag)
        assert (read, type(read)) == (option.default, type(option.default))


def test_flag_has_dashes() -> None:
    assert AXES["activation_checkpointing"].flag == "--activation-checkpointing"


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
    ],
)
def test_axis_reads_text_and_toml(name: str, given: object, value: Value) -> None:
    read = AXES[name].read(given, "here")
    assert (read, type(read)) == (value, type(value))


def test_seconds_are_floats_however_written() -> None:
    for given in ("120", 120, 120.0, "1.2e2"):
        read = SETTINGS["timeout"].read(given, "here")
        assert (read, type(read)) == (120.0, float)


DATA = "resident, synthetic, folder=PATH, text=PATH (PATH may be demo)"


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("strategy", "dpp", "here: got 'dpp'; allowed: single, ddp, fsdp. Did you mean 'ddp'?"),
        ("strategy", "", "here: got ''; allowed: single, ddp, fsdp."),
        ("precision", "amp-bf61", "here: got 'amp-bf61'; allowed: fp32, amp-bf16. Did you mean 'amp-bf16'?"),
        ("gpus", "0", "here: got '0'; allowed: a whole number from 1."),
        ("gpus", "two", "here: got 'two'; allowed: a whole number from 1."),
        ("gpus", 2.5, "here: got 2.5; allowed: a whole number from 1."),
        ("gpus", True, "here: got True; allowed: a whole number from 1."),
        ("gpus", [1], "here: got [1]; allowed: a whole number from 1."),
        ("gpus", None, "here: got None; allowed: a whole number from 1."),
        ("seed", "-1", "here: got '-1'; allowed: a whole number from 0."),
        ("pin_memory", "yes", "here: got 'yes'; allowed: on, off."),
        ("data", "folder", f"here: got 'folder'; allowed: {DATA}. folder takes a path."),
        ("data", "text=", f"here: got 'text='; allowed: {DATA}. text takes a path."),
        ("data", "resident=/a", f"here: got 'resident=/a'; allowed: {DATA}. resident takes no path."),
        ("data", "fodler=/a", f"here: got 'fodler=/a'; allowed: {DATA}. Did you mean 'folder'?"),
        ("steps", "1", "here: got '1'; allowed: a whole number from 2."),
        ("timeout", "nan", "here: got 'nan'; allowed: seconds from 1."),
        ("timeout", "inf", "here: got 'inf'; allowed: seconds from 1."),
        ("timeout", 0.5, "here: got 0.5; allowed: seconds from 1."),
        ("launcher", "servre", "here: got 'servre'; allowed: server, torchrun. Did you mean 'server'?"),
    ],
)
def test_message_names_the_place_the_value_and_what_is_allowed(name: str, given: object, message: str) -> None:
    with pytest.raises(UsageError) as error:
        {**AXES, **SETTINGS}[name].read(given, "here")
    assert str(error.value) == message
    assert error.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("resident", ["resident"]),
        ("resident,synthetic", ["resident", "synthetic"]),
        ("folder=/a,b,text=/c", ["folder=/a,b", "text=/c"]),
        ("folder=/a,b", ["folder=/a,b"]),
        ("text=/c,resident,folder=demo", ["text=/c", "resident", "folder=demo"]),
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


def test_values_are_shown_as_they_are_typed() -> None:
    assert [show(value) for value in (True, False, None, 3, 0.5, "ddp")] == ["on", "off", "", "3", "0.5", "ddp"]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("data", "resident=", "here: got 'resident='; allowed: resident, synthetic, folder=PATH, text=PATH (PATH may be demo). resident takes no path."),
        ("workload", "gpt:layers", "here: workload gpt: got 'layers'; allowed: option=value."),
        ("workload", "m.py:N:x=1,2", "here: workload 'm.py:N:x=1,2': a comma separates workloads; an option's value cannot hold one."),
    ],
)  # fmt: skip
def test_malformed_values_are_told_with_their_place(name: str, given: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        AXES[name].read(given, "here")
    assert str(error.value) == message


def test_a_number_of_any_length_is_compared() -> None:
    assert AXES["seed"].read("9" * 400, "--seed") == int("9" * 400)
    with pytest.raises(UsageError):
        AXES["gpus"].read("-" + "9" * 400, "--gpus")
