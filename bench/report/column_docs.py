"""``results/README.md``, the data dictionary, made from ``bench.store.columns``: ``make dictionary`` writes it."""

from __future__ import annotations

from bench.plan.options import AXES, CHECKPOINTING, COMPILE, OPTIMIZERS, PRECISIONS, SETTINGS
from bench.plan.strategies import STRATEGIES
from bench.store.columns import FILES, Column
from workloads import WORKLOADS

VALUES = {
    "precision": PRECISIONS,
    "activation_checkpointing": CHECKPOINTING,
    "compile": COMPILE,
    "optimizer": OPTIMIZERS,
}

HEAD = """# Results

A run is a folder `runs/<run_id>/`:

| file | what it holds |
|---|---|
| `launches.csv` | one row a launch, and one for each case that could not run |
| `steps.csv` | one row a measured step |
| `ranks.csv` | one row a rank of a launch |
| `devices.csv` | one row a reading of a GPU by NVML, every 0.1 s of a launch |
| `plan.json` | the cases that were planned, and the protocol |
| `logs/<launch_id>/` | what each rank printed (`rank<N>.log`), was told (`spec.json`) and said (`rank<N>.json`) |

CSV by RFC 4180 in UTF-8. Booleans are `true` and `false`. **An empty cell is unknown or has
no meaning for the row, never zero.** A row is one write, flushed to the disk when its launch ends.

This page is made from `bench/store/columns.py` (`make dictionary`); a test compares them.
"""


def dictionary() -> str:
    """The page."""
    return HEAD + "".join(_section(name, columns) for name, columns in FILES.items())


def _section(name: str, columns: dict[str, Column]) -> str:
    lines = [f"| `{column}` | {kind} | {unit} | {meaning} |" for column, (kind, unit, meaning) in columns.items()]
    return "\n".join([f"\n## `{name}`\n", "| column | kind | unit | meaning |", "|---|---|---|---|", *lines, ""])


def options_table() -> str:
    """The table of axes and settings, as the README has it."""
    lines = ["| option | values | default | meaning |", "|---|---|---|---|"]
    for option in [*AXES.values(), *SETTINGS.values()]:
        most = "" if option.most is None else f"; at most {option.most:,.10g}"
        allowed = option.allowed.replace("|", "\\|") + most
        lines.append(f"| `{option.flag}` | {allowed} | {option.shown_default} | {option.help} |")
    return "\n".join(lines) + "\n"


def values_table() -> str:
    """The table of what the values of some axes mean, as the README has it."""
    lines = ["| option | value | what it does |", "|---|---|---|"]
    for name, strategy in STRATEGIES.items():
        lines.append(f"| `--strategy` | `{name}` | {strategy.about} |")
        for option, choice in strategy.options.items():
            values = f"{choice.allowed} (default {choice.default})"
            lines.append(f"| | `{name}:{option}=` {values} | {choice.about} |")
    for option, table in VALUES.items():
        lines += [f"| `{AXES[option].flag}` | `{value}` | {about} |" for value, about in table.items()]
    return "\n".join(lines) + "\n"


def workloads_table() -> str:
    """The table of built-in workloads, as the README has it."""
    lines = ["| workload | parameters | batch | data | what it is |", "|---|---|---|---|---|"]
    for name, entry in WORKLOADS.items():
        data = ", ".join(entry.data)
        lines.append(f"| `{name}` | {entry.parameters:,} | {entry.batch_size} | {data} | {entry.about} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(dictionary(), end="")
