"""What ``bench comms`` measures: its options, its rounds and the factors of nccl-tests."""

from __future__ import annotations

import pytest

from bench.api.comms import comms_request
from bench.errors import UsageError
from bench.machine.gpus import Machine
from bench.plan.case import Case
from bench.plan.comms import COLLECTIVES, comms_workload, parse_comms, size_of, size_text, sizes_of
from bench.plan.comms_rounds import groups_at_once, message_bytes, ranks_text, rounds, why_none
from bench.plan.plan import command, make_plan

K, M = 1024, 1024**2
TWO_NODES = [0, 0, 1, 1]
NO_GPU = Machine((), None, None)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("8", (8,)),
        ("1K", (K,)),
        ("1K..8K", (K, 2 * K, 4 * K, 8 * K)),
        ("3K..8K", (3 * K, 6 * K, 8 * K)),  # the last one is always there
        ("1M,4..8,1M", (4, 8, M)),
        ("2G..2G", (2 * 1024**3,)),
    ],
)
def test_sizes_double_up_to_the_last(text: str, sizes: tuple[int, ...]) -> None:
    assert sizes_of(text) == sizes


@pytest.mark.parametrize("text", ["0", "", "1k", "K", "-1", "1.5M", "8K..1K", "1K...2K", "9999G", "1K,", "٣"])
def test_other_sizes_are_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        comms_workload({"sizes": text})
    assert raised.value.option == "--sizes"
    assert raised.value.allowed == "sizes such as 8, 1K, 64M, 1G, or ranges A..B that double"


@pytest.mark.parametrize(("number", "text"), [(1, "1"), (1000, "1000"), (K, "1K"), (1536, "1536"), (3 * M, "3M")])
def test_a_size_is_shown_as_it_is_given(number: int, text: str) -> None:
    assert size_text(number) == text
    assert size_of(text) == number


# The table of doc/PERFORMANCE.md of nccl-tests, by hand for 2, 4 and 8 ranks.
@pytest.mark.parametrize(
    ("collective", "factors"),
    [
        ("all_reduce", (1, 1.5, 1.75)),
        ("all_gather", (0.5, 0.75, 0.875)),
        ("reduce_scatter", (0.5, 0.75, 0.875)),
        ("all_to_all", (0.5, 0.75, 0.875)),
        ("broadcast", (1, 1, 1)),
        ("send_recv", (1, 1, 1)),
    ],
)
def test_the_factors_are_those_of_nccl_tests(collective: str, factors: tuple[float, ...]) -> None:
    assert tuple(COLLECTIVES[collective].factor(n) for n in (2, 4, 8)) == factors


def test_a_request_is_a_workload_in_its_shortest_form() -> None:
    given = {"collectives": "broadcast,all_reduce", "sizes": "1K..4K,1M", "iters": "20", "max_seconds": "0.5"}
    text = comms_workload(given)
    assert text == "comms:collectives=all_reduce+broadcast:sizes=1K..4K+1M:max_seconds=0.5"
    again, spec = parse_comms(text)
    assert again == text
    assert (spec.collectives, spec.sizes) == (("all_reduce", "broadcast"), (K, 2 * K, 4 * K, M))
    assert (spec.dtypes, spec.groups, spec.iters, spec.max_seconds) == (("float32",), ("all",), 20, 0.5)
    assert parse_comms("comms:sizes=1K..256M")[0] == "comms"  # as by default


@pytest.mark.parametrize(
    ("given", "option", "hint"),
    [
        ({"collectives": "allreduce"}, "--collectives", "Did you mean 'all_reduce'?"),
        ({"groups": "nodes"}, "--groups", "Did you mean 'node'?"),
        ({"dtypes": "fp32"}, "--dtypes", None),
        ({"iters": "2"}, "--iters", None),
        ({"backend": "ncl"}, "--backend", "Did you mean 'nccl'?"),
    ],
)
def test_wrong_values_are_refused(given: dict[str, str], option: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as raised:
        comms_workload(given)
    assert (raised.value.option, raised.value.hint or None) == (option, hint)


@pytest.mark.parametrize("text", ["comms:size=1K", "comms:sizes", "comms:"])
def test_a_workload_with_other_options_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_comms(text)


@pytest.mark.parametrize(
    ("group", "nodes", "found"),
    [
        ("all", TWO_NODES, [((0, 1, 2, 3),)]),
        ("node", TWO_NODES, [((0, 1), (2, 3))]),
        ("across", TWO_NODES, [((0, 2), (1, 3))]),
        ("pairs", [0, 0, 1], [((0, 1),), ((0, 2),), ((1, 2),)]),
        ("node", [0, 0, 1], [((0, 1),)]),  # node 1 has one rank
        ("across", [0, 0, 1], [((0, 2),)]),  # no other node has a second rank
        ("node", [0, 1], []),
        ("across", [0, 0], []),
        ("pairs", [0] * 65, []),
    ],
)
def test_process_groups(group: str, nodes: list[int], found: list[tuple[tuple[int, ...], ...]]) -> None:
    assert groups_at_once(group, nodes) == found
    assert found or why_none(group, nodes)


def test_rounds_are_in_order_and_a_barrier_has_no_size() -> None:
    _, spec = parse_comms("comms:collectives=all_reduce+barrier:sizes=4+8:dtypes=float32+uint8:groups=node")
    found = [(one.groups, one.collective, one.dtype, one.size) for one in rounds(spec, TWO_NODES)]
    both = ((0, 1), (2, 3))
    assert found == [
        (both, "all_reduce", "float32", 4),
        (both, "all_reduce", "float32", 8),
        (both, "all_reduce", "uint8", 4),
        (both, "all_reduce", "uint8", 8),
        (both, "barrier", "", 0),
    ]
    first = next(rounds(spec, TWO_NODES))
    assert [first.of(rank) for rank in (0, 3, 4)] == [(0, 1), (2, 3), None]


@pytest.mark.parametrize(
    ("collective", "dtype", "size", "ranks", "message"),
    [
        ("all_reduce", "float32", 10, 3, 8),  # two numbers
        ("all_gather", "float32", 50, 3, 48),  # four numbers for each of three ranks
        ("all_to_all", "int64", 15, 2, 0),  # less than a number for each
        ("send_recv", "uint8", 7, 4, 7),
        ("barrier", "", 0, 4, 0),
    ],
)
def test_messages_are_whole_numbers(collective: str, dtype: str, size: int, ranks: int, message: int) -> None:
    assert message_bytes(collective, dtype, size, ranks) == message


@pytest.mark.parametrize(
    ("ranks", "text"), [((0, 1, 2, 3), "0-3"), ((0, 4), "0,4"), ((1,), "1"), ((0, 1, 4, 5, 7), "0-1,4-5,7")]
)
def test_ranks_in_short(ranks: tuple[int, ...], text: str) -> None:
    assert ranks_text(ranks) == text


def cases(**given: str) -> list[Case]:
    return [planned.case for planned in make_plan(comms_request({"device": "cpu", **given}), NO_GPU).cases]


def test_a_case_for_each_number_of_ranks_and_its_command() -> None:
    plan = make_plan(comms_request({"device": "cpu", "gpus": "1,2", "sizes": "1K,8K", "launches": "5"}), NO_GPU)
    assert [planned.skip for planned in plan.cases] == ["a collective needs two ranks; give --gpus 2 or more", None]
    case = plan.cases[1].case
    assert (case.world_size, case.strategy, case.precision, case.batch_size) == (2, "none", None, None)
    assert case.case_id.startswith("comms-x2-cpu-")
    assert command(case, plan.protocol) == "bench comms --sizes 1K,8K --gpus 2 --device cpu --launches 5"


def test_what_is_measured_is_part_of_the_case_id() -> None:
    [a], [b] = cases(sizes="1K"), cases(sizes="2K")
    assert a.case_id != b.case_id
    assert [cases(sizes="1K")[0].case_id, cases(sizes="1K", iters="20")[0].case_id] == [a.case_id] * 2
