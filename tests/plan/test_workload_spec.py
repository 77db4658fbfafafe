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
    "llama, llama-nano, llama-1b, llama-8b, bert, dlrm, mlp, timm, torchvision, hf, file.py:Name"
)


@pytest.mark.parametrize(
    ("text", "option", "given", "allowed", "hint"),
    [
        ("resnet81", None, "resnet81", ALL, "Did you mean 'resnet18' or 'resnet50'?"),
        ("zzz", None, "zzz", ALL, None),
        ("", None, "", ALL, None),
        ("train.py", None, "train.py", ALL, "Name your own workload as file.py:Name."),
        ("my.nets", None, "my.nets", ALL, "Name your own workload as file.py:Name."),
        ("gpt:wdth=64", "gpt", "wdth", "the options layers, heads, width, seq, vocab", "Did you mean 'width'?"),
        ("mlp:zzz=1", "mlp", "zzz", "the options layers, width, features, classes", None),
        ("gpt:layers=two", "gpt:layers", "two", "a whole number", None),
        ("gpt:layers=2.5", "gpt:layers", "2.5", "a whole number", None),
        ("gpt:layers=", "gpt", "layers=", "option=value", None),
        ("gpt:layers=2:heads", "gpt", "heads", "option=value", None),
        ("file.py:Net:=3", "file.py:Net", "=3", "option=value", None),
        ("gpt:layers=0", "gpt:layers", 0, "a whole number from 1", None),
        ("resnet18:size=31", "resnet18:size", 31, "a whole number from 32", None),
        ("mlp:classes=1", "mlp:classes", 1, "a whole number from 2", None),
        ("gpt:heads=0", "gpt:heads", 0, "a whole number from 1", None),
        ("gpt:width=130", "gpt:width", 130, "a multiple of heads = 4", None),  # 130 = 32 x 4 + 2
        ("vit-b-16:size=60", "vit-b-16:size", 60, "a multiple of 16", None),
        ("llama:kv_heads=3", "llama:heads", 4, "a multiple of kv_heads = 3", None),
        ("llama-nano:width=12", "llama-nano:width", 12, "a multiple of 2 × heads = 2 × 4", None),  # rotary embeddings turn pairs
        ("llama:tied=2", "llama:tied", 2, "a whole number from 0 to 1", None),
        ("llama:tied=-1", "llama:tied", -1, "a whole number from 0 to 1", None),
        ("bert:seq=513", "bert:seq", 513, "a whole number from 1 to 512", None),
        ("bert:vocab=256", "bert:vocab", 256, "a whole number from 257", None),
        ("dlrm:tables=27", "dlrm:tables", 27, "a whole number from 1 to 26", None),
        ("mnist-cnn:size=32", "mnist-cnn", "size", "no options", None),
        ("gpt:heads=3", "gpt:width", 128, "a multiple of heads = 3", None),  # 128 = 42 x 3 + 2
    ],
)  # fmt: skip
def test_an_error_says_what_was_given_and_what_is_allowed(
    text: str, option: str | None, given: object, allowed: str, hint: str | None
) -> None:
    with pytest.raises(UsageError) as raised:
        parse_workload(text)
    error = raised.value
    assert (error.option, error.given, error.allowed, error.hint) == (option, given, allowed, hint)


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
    ("text", "option", "given", "allowed", "hint"),
    [
        ("net:Net:n=9223372036854775808", "net:Net:n", "9223372036854775808", "a whole number of at most 64 bits", None),
        ("net:Net:n=-9223372036854775809", "net:Net:n", "-9223372036854775809", "a whole number of at most 64 bits", None),
        ("net:Net:x=1e400", "net:Net:x", "1e400", "a number up to 1.8e308", None),
        ("gpt:layers=10000001", "gpt:layers", 10000001, "a whole number from 1", "At most 10,000,000."),
        ("mlp:width=18446744073709551616", "mlp:width", 18446744073709551616, "a whole number from 1", "At most 10,000,000."),
    ],
)  # fmt: skip
def test_a_number_that_no_tensor_holds(
    text: str, option: str | None, given: object, allowed: str, hint: str | None
) -> None:
    with pytest.raises(UsageError) as raised:
        parse_workload(text)
    error = raised.value
    assert (error.option, error.given, error.allowed, error.hint) == (option, given, allowed, hint)


def test_a_number_of_thousands_of_digits_is_no_traceback() -> None:
    for text in ("net:Net:n=", "gpt:layers=", "fsdp"):
        with pytest.raises(UsageError):
            parse_workload(text + "9" * 5000)
    assert parse_workload("net:Net:n=9223372036854775807").options == {"n": 2**63 - 1}
