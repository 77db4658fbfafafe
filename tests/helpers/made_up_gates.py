"""Gates as no machine made them: one of every verdict, and one whose texts want to be more than text."""

from __future__ import annotations

from bench.stats.verdict import Control, Gate, Rules, Verdict

HOSTILE = "<script>]]>&\"%0A::error::x,y:z\r\n=cmd|' /C calc'!A0 \x1b[31m\x00\ud800\uffff @team `a` **b**"

SLOWER = Verdict(
    "gpt-nano-ddp-x2",
    "slower",
    "-4.0% (-5.0%…-3.0%) on 16 blocks; confirmed by fresh launches",
    case_a="gpt-nano-ddp-x2-cpu-6c97f979",
    case_b="gpt-nano-ddp-x2-cpu-6c97f979",
    workload="gpt-nano",
    command="bench run --workload gpt-nano --strategy ddp --gpus 2",
    how="blocks",
    ratio=0.96,
    low=0.95,
    high=0.97,
    p=0.00012,
    blocks=16,
    launches=64,
    detectable=0.021,
    samples_per_s_a=1500.0,
    samples_per_s_b=1440.0,
    memory="same",
    memory_ratio=1.0004,
    memory_mib_a=812.0,
    memory_mib_b=812.3,
    seconds=312.5,
)
SAME = Verdict(
    "gpt-nano-single-x1",
    "same",
    "no change of 3.0% or more",
    workload="gpt-nano",
    how="blocks",
    ratio=0.9996,
    low=0.992,
    high=1.0072,
    p=0.4,
    blocks=8,
    launches=32,
    detectable=0.018,
    samples_per_s_a=89.35,
    samples_per_s_b=89.31,
    memory="less",
    memory_ratio=0.9,
    memory_mib_a=400.0,
    memory_mib_b=360.0,
    seconds=0.00001,
)
MORE = Verdict(
    "mlp-fsdp-x2",
    "faster",
    "",
    workload="mine.py:Net:width=8",
    command="bench run --workload mine.py:Net:width=8 --strategy fsdp",
    how="duet",
    ratio=1.05,
    low=1.04,
    high=1.06,
    blocks=16,
    launches=32,
    memory="more",
    memory_ratio=1.05,
    memory_mib_a=1000.0,
    memory_mib_b=1050.0,
    seconds=100.0,
)
UNDECIDED = Verdict("resnet18-ddp-x2", "inconclusive", "within the noise", "x", "x", "resnet18", ratio=0.98)
BROKEN = Verdict("resnet18-fsdp-x2", "broken", "rank 1: RuntimeError: no", workload="resnet18", seconds=float("nan"))
MISSING = Verdict("dlrm-ddp-x2", "missing", "not in B")
NEW = Verdict("bert-ddp-x2", "new", "not in A", samples_per_s_b=12.0)
UNLIKE = Verdict("llama-ddp-x2", "incomparable", "global_batch: 8 in A, 16 in B")

CONTROL = Control("gpt-nano-single-x1", False, "gpt-nano-single-x1 against itself: +0.1% (-0.4%…+0.6%) on 8 blocks")
FLAGGED = Control(
    "gpt-nano-single-x1",
    True,
    "gpt-nano-single-x1 against itself: +3.1% (+2.0%…+4.2%) on 8 blocks",
    "differs from itself",
)

GATE = Gate(
    a="HEAD^1 (1f3a9c2)",
    b="HEAD (77d0e41)",
    verdicts=(SAME, SLOWER, NEW, UNDECIDED, BROKEN, MORE, MISSING),
    control=CONTROL,
    differences=("torch: 2.11.0 in A, 2.12.0 in B",),
    notes=("2 blocks of resnet18-ddp-x2 have no number",),
    run_id="20261102-090000-5e1f",
    ratio=0.9876,
    low=0.981,
    high=0.9942,
)
ODD = Gate(
    a=HOSTILE,
    b=HOSTILE,
    verdicts=(
        Verdict(HOSTILE, "slower", HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, ratio=0.9, seconds=1e-9),
        Verdict("", "broken", ""),
        Verdict(HOSTILE, "inconclusive", "", ratio=float("nan")),
    ),
    control=Control(HOSTILE, True, HOSTILE, HOSTILE),
    differences=(HOSTILE,),
    notes=(HOSTILE,),
    run_id=HOSTILE,
)
GOOD = Gate("A", "B", (SAME,), Rules(), CONTROL)


def many(count: int) -> Gate:
    """A gate of so many slower cases, as many undecided ones, and as many that are the same."""
    kinds = ("slower", "inconclusive", "same")
    return Gate("A", "B", tuple(Verdict(f"{kind}-{n}", kind, "why") for kind in kinds for n in range(count)))
