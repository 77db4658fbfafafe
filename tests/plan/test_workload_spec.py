"""What ``--workload`` says."""

from __future__ import annotations

import pytest

from bench.errors import UsageError
from bench.plan.workload_spec import parse_workload

NANO = {"layers": 4, "heads": 4, "width": 128, "seq": 128, "vocab": 256}


def test_built_in_without_options_has_the_defaults() -> None:
    spec = parse_workload("gpt-nano")
    assert (spec.spec, spec.target, spec.given, spec.options) == ("gpt-nano", "workloads.gpt:GPT", {}, NANO)


def test_options_replace_defaults_and_are_sorted() -> None:
    spec = parse_workload("gpt-nano:width=64:layers=2")
    assert spec.spec == "gpt-nano:layers=2:width=64"
    assert spec.given == {"width": 64, "layers": 2}
    assert spec.options == {**NANO, "width": 64, "layers": 2}


def test_option_at_its_default_is_as_if_it_were_not_given() -> None:
    assert parse_workload("gpt-nano:layers=4:seq=64").spec == "gpt-nano:seq=64"
    assert parse_workload("gpt-nano:layers=04").spec == "gpt-nano"


def test_own_file_with_options_guesses_their_types() -> None:
    spec = parse_workload("a/my.py:Net:opt=3:x=1.5:flag=on:other=off:name=abc")
    assert spec.target == "a/my.py:Net"
    assert spec.entry is None
    assert spec.options == {"opt": 3, "x": 1.5, "flag": True, "other": False, "name": "abc"}
    assert [type(value) for value in spec.options.values()] == [int, float, bool, bool, str]
    assert spec.spec == "a/my.py:Net:flag=on:name=abc:opt=3:other=off:x=1.5"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-3", -3),
        ("007", 7),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("2.", 2.0),
        ("1.5E-2", 0.015),
        ("nan", "nan"),
        ("inf", "inf"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("On", "On"),
    ],
)
def test_value_of_an_own_option(text: str, value: object) -> None:
    read = parse_workload(f"net:Net:opt={text}").options["opt"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("text", ["file.py:Name:opt=3", "pack.age:Name", "resnet18:size=64", "f.py:N:a=on:b=x=y"])
def test_spec_parses_back_to_itself(text: str) -> None:
    once = parse_workload(text)
    assert once.spec == text
    assert parse_workload(once.spec) == once


ALL = (
    "resnet18, resnet50, vit-b-16, mnist-cnn, gpt, gpt-nano, gpt-124m, gpt-350m, "
    "llama, llama-nano, llama-1b, llama-8b, bert, dlrm, mlp, file.py:Name"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet81", f"no workload 'resnet81'; allowed: {ALL}. Did you mean 'resnet18' or 'resnet50'?"),
        ("zzz", f"no workload 'zzz'; allowed: {ALL}."),
        ("", f"no workload ''; allowed: {ALL}."),
        ("train.py", f"no workload 'train.py'; allowed: {ALL}. A user's own is file.py:Name."),
        ("my.nets", f"no workload 'my.nets'; allowed: {ALL}. A user's own is file.py:Name."),
        (
            "gpt:wdth=64",
            "workload gpt has no option 'wdth'; allowed: layers, heads, width, seq, vocab. Did you mean 'width'?",
        ),
        ("mlp:zzz=1", "workload mlp has no option 'zzz'; allowed: layers, width, features, classes."),
        ("gpt:layers=two", "workload gpt: layers got 'two'; allowed: a whole number."),
        ("gpt:layers=2.5", "workload gpt: layers got '2.5'; allowed: a whole number."),
        ("gpt:layers=", "workload gpt: got 'layers='; allowed: option=value."),
        ("gpt:layers=2:heads", "workload gpt: got 'heads'; allowed: option=value."),
        ("file.py:Net:=3", "workload file.py:Net: got '=3'; allowed: option=value."),
        ("gpt:layers=0", "workload gpt:layers=0: layers got 0; allowed: a whole number from 1."),
        ("resnet18:size=31", "workload resnet18:size=31: size got 31; allowed: a whole number from 32."),
        ("mlp:classes=1", "workload mlp:classes=1: classes got 1; allowed: a whole number from 2."),
        ("gpt:heads=0", "workload gpt:heads=0: heads got 0; allowed: a whole number from 1."),
        (  # 130 = 32 x 4 + 2
            "gpt:width=130",
            "workload gpt:width=130: width 130 does not divide by heads 4; give a width that is a multiple of heads.",
        ),
        (
            "vit-b-16:size=60",
            "workload vit-b-16:size=60: size 60 does not divide by 16; give a size that is a multiple of 16.",
        ),
        (
            "llama:kv_heads=3",
            "workload llama:kv_heads=3: heads 4 does not divide by kv_heads 3; "
            "give a heads that is a multiple of kv_heads.",
        ),
        (  # heads of width 3, an odd one: rotary embeddings turn pairs
            "llama-nano:width=12",
            "workload llama-nano:width=12: width 12 does not divide by 2 × heads 4; "
            "give a width that is a multiple of 2 × heads.",
        ),
        ("llama:tied=2", "workload llama:tied=2: tied got 2; allowed: a whole number from 0 to 1."),
        ("llama:tied=-1", "workload llama:tied=-1: tied got -1; allowed: a whole number from 0 to 1."),
        ("bert:seq=513", "workload bert:seq=513: seq got 513; allowed: a whole number from 1 to 512."),
        ("bert:vocab=256", "workload bert:vocab=256: vocab got 256; allowed: a whole number from 257."),
        ("dlrm:tables=27", "workload dlrm:tables=27: tables got 27; allowed: a whole number from 1 to 26."),
        ("mnist-cnn:size=32", "workload mnist-cnn has no option 'size'; it has none."),
        (  # 128 = 42 x 3 + 2
            "gpt:heads=3",
            "workload gpt:heads=3: width 128 does not divide by heads 3; give a width that is a multiple of heads.",
        ),
    ],
)
def test_message_says_what_was_given_and_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_workload(text)
    assert str(error.value) == message


def test_extreme_values_are_allowed() -> None:
    assert parse_workload("resnet18:size=32:classes=2").given == {"size": 32, "classes": 2}
    assert parse_workload("gpt:width=3:heads=3").given == {"width": 3, "heads": 3}
    assert parse_workload("vit-b-16:size=32").given == {"size": 32}
    assert parse_workload("llama:width=6:heads=3:kv_heads=3:tied=0").given == {
        "width": 6,
        "heads": 3,
        "kv_heads": 3,
        "tied": 0,
    }
    assert parse_workload("bert:seq=512:vocab=257").given == {"vocab": 257, "seq": 512}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net:Net:n=9223372036854775808", "workload net:Net: n got '9223372036854775808'; allowed: a whole number of at most 64 bits."),
        ("net:Net:n=-9223372036854775809", "workload net:Net: n got '-9223372036854775809'; allowed: a whole number of at most 64 bits."),
        ("net:Net:x=1e400", "workload net:Net: x got '1e400'; allowed: a number up to 1.8e308."),
        ("gpt:layers=10000001", "workload gpt:layers=10000001: layers got 10000001; allowed: a whole number from 1. At most 10,000,000."),
        ("mlp:width=18446744073709551616", "workload mlp:width=18446744073709551616: width got 18446744073709551616; allowed: a whole number from 1. At most 10,000,000."),
    ],
)  # fmt: skip
def test_a_number_that_no_tensor_holds(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_workload(text)
    assert str(error.value) == message


def test_a_number_of_thousands_of_digits_is_no_traceback() -> None:
    for text in ("net:Net:n=", "gpt:layers=", "fsdp"):
        with pytest.raises(UsageError):
            parse_workload(text + "9" * 5000)
    assert parse_workload("net:Net:n=9223372036854775807").options == {"n": 2**63 - 1}
