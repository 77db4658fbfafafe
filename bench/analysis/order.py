"""Cases in the expected order, and the shortest labels that distinguish them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from bench.plan.optimizers import OPTIMIZERS
from bench.plan.options import ATTENTION, AXES, COMPILE, COMPILE_SCOPES, PRECISIONS, SAVING, show
from bench.plan.strategies import STRATEGIES
from bench.store.environments import over_nodes
from workloads import WORKLOADS

REGISTRIES = {
    "workload": list(WORKLOADS),
    "strategy": list(STRATEGIES),
    "precision": list(PRECISIONS),
    "compile": list(COMPILE),
    "compile_scope": list(COMPILE_SCOPES),
    "attention": list(ATTENTION),
    "save_checkpoint": list(SAVING),
    "optimizer": list(OPTIMIZERS),
    "activation_checkpointing": ["none", "selective", "every", "full"],
}
# How a value is shown without the name of its axis; other axes are named.
WORDS = {
    **dict.fromkeys(("workload", "strategy", "precision", "data", "env", "optimizer", "device"), "{}"),
    **{"gpus": "×{}", "batch_size": "batch {}", "activation_checkpointing": "ac {}", "num_workers": "{} workers"},
    **{"omp_num_threads": "OMP {}", "grad_accum_steps": "accum {}", "max_grad_norm": "clip {}"},
    **{"prefetch_factor": "prefetch {}", "save_checkpoint": "save {}", "activation_offload": "offload {}"},
}


def in_order(cases: pd.DataFrame) -> pd.DataFrame:
    """Return rows of cases sorted by their axes in the order of AXES: names as registered, numbers by size."""
    keys = list(zip(*([_sort_key(name, value) for value in cases[name]] for name in AXES), strict=True))
    return cases.iloc[sorted(range(len(cases)), key=keys.__getitem__)].reset_index(drop=True)


def _sort_key(axis: str, value: Any) -> tuple[int, float, str]:
    if pd.isna(value):
        return -1, 0.0, ""
    if isinstance(value, str):
        known, name = REGISTRIES.get(axis, []), value.partition(":")[0].partition("=")[0]
        return (known.index(name) if name in known else len(known)), 0.0, value
    return 0, float(value), ""


def varying(cases: pd.DataFrame) -> list[str]:
    """Return the axes in which cases differ.

    An axis that only some cases have (prefetching needs workers) is left out, unless nothing else distinguishes them.
    """
    names = [name for name in AXES if len(set(cases[name].dropna())) > 1]
    for name in (name for name in AXES if name not in names and cases[name].nunique(dropna=False) > 1):
        alike = cases.groupby(names, sort=False, dropna=False)[name] if names else cases[name]
        if np.max(alike.nunique(dropna=False)) > 1:
            names.append(name)
    return [name for name in AXES if name in names]


def labels(cases: pd.DataFrame, always: Iterable[str] = ("strategy", "gpus", "precision")) -> pd.Series:
    """Return a label for each case: the axes that distinguish it from others of its workload, and ``always``.

    The workload is named if there are several, and so are the environment and the code of a workload.
    """
    texts: dict[Any, str] = {}
    workloads = ["workload"] if cases["workload"].nunique() > 1 else []
    for _, rows in cases.groupby("workload", sort=False, dropna=False):
        told = {*workloads, *always, *varying(rows)}
        names = [name for name in AXES if name in told]
        words = [[word(name, value) for value in rows[name]] for name in names]
        texts |= {index: " ".join(filter(None, (of[i] for of in words))) for i, index in enumerate(rows.index)}
    return pd.Series(texts, dtype="str").reindex(cases.index) + apart(cases)


def apart(cases: pd.DataFrame) -> pd.Series:
    """Return what distinguishes cases with the same axes: `` (B, 2(x2) ranks, code 2)``, each part only if needed.

    The ranks of each node are said if there are several nodes, and the others if there are several.
    """
    parts = []
    if "environment" in cases and cases["environment"].nunique() > 1:
        parts.append(cases["environment"].astype("str"))
    if "nproc_per_node" in cases:
        parts.append(over_nodes(cases))
    if "code" in cases:
        several = cases.groupby("workload", dropna=False)["code"].transform("nunique") > 1
        parts.append(("code " + (cases["code"] + 1).astype("str")).where(several, ""))
    said = [", ".join(filter(None, words)) for words in zip(*parts, strict=True)] if parts else [""] * len(cases)
    return pd.Series([f" ({words})" if words else "" for words in said], cases.index, dtype="str")


def word(axis: str, value: Any) -> str:
    """Return a value of an axis for people; empty if the axis has no effect."""
    if pd.isna(value) or value == "":
        return ""
    text = show(bool(value)) if isinstance(value, (bool, np.bool_)) else show(value)
    return WORDS.get(axis, AXES[axis].flag.removeprefix("--") + " {}").format(
        text.removesuffix(".0") if isinstance(value, float) else text
    )
