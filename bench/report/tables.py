"""The tables of a report: the title, the cells and the sort key of each column. All formats have the same tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.analysis.answers import Answers
from bench.analysis.order import labels
from bench.analysis.scaling import BASE
from bench.analysis.summary import GROUP
from bench.report.format import UNKNOWN, number
from bench.stats.slow_rank import CONFIDENCE, FAR, FLOOR, LEAST_LAUNCHES
from bench.store.environments import known_values, unlike

MIB_A_GIB = 1024
MEASURES = {
    "device_used_mib": "the device, in use",
    "peak_reserved_mib": "the allocator's pool",
    "peak_allocated_mib": "tensors",
    "peak_host_mib": "a rank with its DataLoader workers",
    "peak_rss_mib": "a rank's resident set",
}

Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    ``show`` returns the cell of a row; ``sort`` names the column of the frame to sort by, if it is not the cell itself.
    ``numeric`` columns are right-aligned. ``brief`` columns are also shown on a terminal.
    """

    title: str
    show: Callable[[Row], str]
    sort: str | None = None
    numeric: bool = True
    brief: bool = True


@dataclass(frozen=True)
class Table:
    """A frame as a table for people.

    ``name`` is its anchor on the page and the name of its CSV file; ``note`` says how to read it.
    """

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    frame: pd.DataFrame

    def cells(self) -> Iterator[list[str]]:
        """Yield the texts of the cells of each row."""
        for row in self._rows():
            yield [column.show(row) or UNKNOWN for column in self.columns]

    def sort_keys(self) -> Iterator[list[float | str | None]]:
        """Yield the sort keys of each row: numbers or texts, and None for unknown values."""
        for row in self._rows():
            yield [_key(column, row) for column in self.columns]

    def _rows(self) -> Iterator[Row]:
        return (dict(zip(self.frame.columns, values, strict=True)) for values in known_values(self.frame))


def _key(column: Column, row: Row) -> float | str | None:
    value = row[column.sort] if column.sort else column.show(row)
    return float(value) if column.numeric and value not in (None, "") else value


def figure_column(title: str, name: str, brief: bool = True, scale: float = 1) -> Column:
    """Return a column of numbers of the frame's column ``name``, divided by ``scale``."""
    return Column(title, lambda row: "" if row[name] is None else number(row[name] / scale), name, brief=brief)


def _share(title: str, name: str, brief: bool = True) -> Column:
    return Column(title, lambda row: "" if row[name] is None else _percent(row[name]), name, brief=brief)


def text_column(title: str, name: str, brief: bool = True) -> Column:
    """Return a column of texts."""
    return Column(title, lambda row: "" if row[name] is None else str(row[name]), name, numeric=False, brief=brief)


def count_column(title: str, name: str, brief: bool = True) -> Column:
    """Return a column of whole numbers."""
    return Column(title, lambda row: "" if row[name] is None else f"{int(row[name]):,}", name, brief=brief)


def range_column(title: str, name: str, show: Callable[[float], str]) -> Column:
    """Return a column of intervals, from the frame's columns ``name`` with ``_low`` and ``_high``."""
    low, high = f"{name}_low", f"{name}_high"

    def words(row: Row) -> str:
        return "" if row[low] is None else f"{show(row[low])}…{show(row[high])}"

    return Column(title, words, low)


def _percent(value: float) -> str:
    return f"{round(value, 3) + 0:.1%}"  # + 0 turns -0.0 into 0.0.


def status_words(row: Row) -> str:
    """Return how a case's launches ended: ``ok``, ``oom``, ``skipped``, or ``2 oom, 1 crashed of 4``."""
    alike = row["launches"] in (0, row["ok"]) or row["failed"] == f"{row['launches']} {row['status']}"
    return str(row["status"]) if alike else f"{row['failed']} of {row['launches']}"


CASE = text_column("case", "label")
SUMMARY = (
    CASE,
    Column("status", status_words, "status", numeric=False),
    count_column("launches", "ok", brief=False),
    figure_column("samples/s", "samples_per_s"),
    range_column("95 % interval", "samples_per_s", number),
    figure_column("samples/s per device", "samples_per_s_per_device", brief=False),
    figure_column("tokens/s", "tokens_per_s"),
    figure_column("step p50 ms", "step_ms"),
    figure_column("step p95 ms", "step_p95_ms", brief=False),
    _share("data wait", "data_wait_share"),
    _share("exposed comm", "exposed_comm_share"),
    figure_column("exposed comm ms", "exposed_comm_ms", brief=False),
    text_column("by", "comm_method", brief=False),
    _share("MFU", "mfu"),
    _share("HFU", "hfu", brief=False),
    _share("MFU achievable", "mfu_achievable"),
    figure_column("memory GiB", "memory_mib", scale=MIB_A_GIB),
    figure_column("host RSS GiB", "peak_rss_mib", brief=False, scale=MIB_A_GIB),
    figure_column("host GiB with workers", "peak_host_mib", brief=False, scale=MIB_A_GIB),
    figure_column("J/sample", "joules_per_sample", brief=False),
    figure_column("compile s", "compile_s", brief=False),
    figure_column("start-up s", "startup_s", brief=False),
    text_column("marks", "marks"),
)
SCALING = (
    CASE,
    text_column("mode", "mode"),
    count_column("devices", "gpus"),
    text_column("base", "base_label", brief=False),
    figure_column("samples/s", "samples_per_s"),
    figure_column("speed-up", "speedup"),
    _share("efficiency", "efficiency"),
    range_column("95 % interval", "efficiency", _percent),
    text_column("by", "interval", brief=False),
    Column("remark", lambda row: row["flag"] or row["refused"] or "", "flag", numeric=False),
)
TRADEOFF = (
    CASE,
    figure_column("samples/s", "samples_per_s"),
    _share("slower", "loss"),
    range_column("95 % interval", "loss", _percent),
    figure_column("memory GiB", "memory_mib", scale=MIB_A_GIB),
    Column("of", lambda row: MEASURES.get(row["memory_measure"], ""), "memory_measure", numeric=False, brief=False),
    Column("on the front", lambda row: "yes" if row["on_front"] else "", "on_front", numeric=False),
    text_column("choice", "choice"),
)
TUNING = (
    CASE,
    count_column("OMP threads", "omp_num_threads", brief=False),
    count_column("workers", "num_workers", brief=False),
    count_column("prefetch", "prefetch_factor", brief=False),
    figure_column("samples/s", "samples_per_s"),
    _share("data wait", "data_wait_share"),
    _share("slower", "loss"),
    range_column("95 % interval", "loss", _percent),
    Column("mark", lambda row: ", ".join(w for w in ("best", "default") if row[w]), numeric=False),
)
SAVING = (
    CASE,
    figure_column("stands still s", "save_blocked_s"),
    figure_column("written after s", "save_total_s"),
    figure_column("MB", "save_bytes", scale=1e6),
    figure_column("MB/s", "save_mb_per_s"),
    figure_column("load s", "load_s"),
    _share("goodput", "goodput"),
    figure_column("step ms", "step_ms", brief=False),
    figure_column("step ms while saving", "save_step_ms", brief=False),
    figure_column("memory MiB while saving", "save_peak_allocated_mib"),
    figure_column("host RSS MiB while saving", "save_peak_rss_mib"),
)
FAILURES = (
    CASE,
    text_column("status", "status"),
    count_column("launches", "launches"),
    text_column("reason", "reason"),
    text_column("logs", "log_path", brief=False),
)
SLOW_RANKS = (
    CASE,
    count_column("rank", "rank"),
    count_column("node", "node", brief=False),
    text_column("host", "host"),
    count_column("local rank", "local_rank", brief=False),
    text_column("device", "device_name", brief=False),
    count_column("launches", "launches", brief=False),
    figure_column("own ms", "own_ms"),
    figure_column("wait ms", "data_wait_ms", brief=False),
    figure_column("copy ms", "copy_ms", brief=False),
    figure_column("forward ms", "forward_ms", brief=False),
    _share("spread", "own_cv"),
    _share("last in", "last_share"),
    _share("slower", "excess"),
    _share("at least", "excess_low"),
    text_column("slow", "slow"),
    text_column("by", "own_method", brief=False),
)
COMMANDS = (CASE, text_column("case_id", "case_id"), text_column("command", "command"))


def tables(answers: Answers) -> list[Table]:
    """Return the tables that have rows, in the order of a report, without the columns that have no value."""
    names = answers.summary[list(GROUP)].assign(label=labels(answers.summary))
    base = names.drop(columns="work_key").rename(columns=lambda name: name if name == "environment" else f"base_{name}")
    alike = ["environment", *BASE]
    scaling = _with_labels(answers.scaling, names).merge(base.drop_duplicates(alike), on=alike, how="left")
    summary = answers.summary.assign(label=names["label"])
    saving = summary[summary["save_blocked_s"].notna()]
    failures = _with_labels(answers.failures, names)
    failures["log_path"] = failures["run_id"] + "/" + failures["log"]
    found = [
        environments(answers),
        Table("summary", "Cases", _summary_note(answers), SUMMARY, summary),
        Table("scaling", "Scaling", _SCALING_NOTE, SCALING, scaling),
        Table("tradeoff", "Speed against memory", _TRADEOFF_NOTE, TRADEOFF, _with_labels(answers.tradeoff, names)),
        Table("tuning", "Threads and workers", _TUNING_NOTE, TUNING, _with_labels(answers.tuning, names)),
        Table("slow_ranks", "Ranks", _SLOW_RANKS_NOTE, SLOW_RANKS, _with_labels(answers.slow_ranks, names)),
        Table("saving", "Saving", _SAVING_NOTE, SAVING, saving),
        Table("failures", "Failures", _FAILURES_NOTE, FAILURES, failures),
        Table("commands", "Commands", "", COMMANDS, summary),
    ]
    return [without_empty(table) for table in found if len(table.frame)]


_SUMMARY_NOTE = (
    "Figures are medians over the launches that were ok; the interval of samples/s is the 95 % interval of the median, "
    "by order statistics. Memory is per device; on the CPU it is that of the rank with the most."
)
_WORKERS_NOTE = (
    " It includes the rank's DataLoader workers, because cases have different numbers of them; a page that several "
    "processes share is divided among them."
)
_COMM_NOTE = " Exposed communication is the part of a step that waits for communication, of its critical rank."
_SCALING_NOTE = (
    "Weak scaling: the batch per device stays the same; strong scaling: the global batch stays the same. Efficiency is "
    "speed-up / (devices / devices of the base); above 102 % it is suspicious. Cases that also differ in other "
    "settings are not compared."
)
_TRADEOFF_NOTE = (
    "Slower: than the fastest case with the same workload, data and devices, by the ratio of the medians. If the "
    "interval includes 0 %, the case cannot be distinguished from the fastest. Intervals allow for having chosen the "
    "fastest of many cases. Cases on the front have every launch ok, and no other such case is both faster and smaller."
)
_TUNING_NOTE = (
    "Slower: than the best of the cases that differ only in threads, workers and prefetch factor, by the ratio of the "
    "medians. If the interval includes 0 %, the case cannot be distinguished from the best. Intervals allow for having "
    "chosen the best of many cases."
)
_SLOW_RANKS_NOTE = (
    "Own time: what a step takes the rank before its first collective; by steps after the window, all time outside of "
    "collectives. Spread: standard deviation / mean over steps. Last in: share of steps in which no other rank has as "
    "much. Slower: than the median of the other ranks, over launches. A rank is slow if the lower bound of that, which "
    f"holds for all ranks of a case with {CONFIDENCE:.0%}, is above {FLOOR:.0%}, with {LEAST_LAUNCHES} launches or "
    f"more; or if it is more than {FAR:.0%} slower in each launch. A node is slow if all its ranks are slower."
)
_SAVING_NOTE = (
    "One save of parameters and optimizer state, and loading it: medians over launches, of the slowest rank. Goodput: "
    "the share of time that trains, if a save follows each --save-interval steps."
)
_FAILURES_NOTE = "Every failed launch, and every case that was not launched."


def _summary_note(answers: Answers) -> str:
    with_workers = (answers.summary["memory_measure"] == "peak_host_mib").any()
    profiled = answers.summary["exposed_comm_share"].notna().any()
    return _SUMMARY_NOTE + (_WORKERS_NOTE if with_workers else "") + (_COMM_NOTE if profiled else "")


def environments(answers: Answers) -> Table:
    """Return the table of the runs' machines and software, and how each differs from the first one."""
    letters = list(dict.fromkeys(answers.launches["environment"]))
    rows = [_environment(letter, letters[0], answers.launches) for letter in letters]
    columns = (
        text_column("environment", "environment"),
        text_column("runs", "runs"),
        text_column("host", "hostname"),
        text_column("devices", "devices"),
        text_column("processors", "processors"),
        text_column("software", "software"),
        text_column("differs from the first in", "unlike"),
    )
    return Table("environments", "Machine and software", "", columns, pd.DataFrame(rows))


def _environment(letter: str, first: str, launches: pd.DataFrame) -> dict[str, str]:
    rows = launches[launches["environment"] == letter]

    def values(name: str, text: str = "{}") -> str:
        known = dict.fromkeys(rows[name].dropna())
        return text.format(" and ".join(map(str, known))) if known else ""

    software = {"python": "Python {}", "torch": "torch {}", "cuda": "CUDA {}", "nccl": "NCCL {}", "driver": "driver {}"}
    processors = {"cpu_model": "{}", "cpu_cores": "{} cores", "ram_gib": "{} GiB"}
    return {
        "environment": letter,
        "runs": ", ".join(dict.fromkeys(rows["run_id"])),
        "hostname": values("hostname"),
        "devices": values("device_name"),
        "processors": ", ".join(filter(None, (values(name, text) for name, text in processors.items()))),
        "software": ", ".join(filter(None, (values(name, text) for name, text in {**software, "os": "{}"}.items()))),
        "unlike": "; ".join(d.words(f"in {first}", f"in {letter}") for d in unlike(launches, first, letter)),
    }


def _with_labels(frame: pd.DataFrame, names: pd.DataFrame) -> pd.DataFrame:
    return frame.merge(names, on=list(GROUP), how="left")


def without_empty(table: Table) -> Table:
    """Return the table without columns that have no value in any row."""
    cells = list(table.cells())
    kept = [c for i, c in enumerate(table.columns) if any(row[i] != UNKNOWN for row in cells)]
    return Table(table.name, table.title, table.note, tuple(kept), table.frame)
