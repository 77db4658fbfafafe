"""The result of a launch of ``bench comms``: from its ranks' records to the rows of ``comms.csv``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from bench.messages.comms_record import CommsTimes
from bench.plan.comms import COLLECTIVES
from bench.plan.comms_rounds import Ranks, Round, groups_at_once, message_bytes, ranks_text, rounds, why_none
from bench.runner.failure_cause import is_machine_failure
from bench.runner.launched import End, Judge, Launched, imported, nodes_columns, rank_facts, with_node
from bench.runner.metrics import rank_rows
from bench.store.columns import Row


class CommsJudge(Judge):
    """Makes rows from launches that measured collectives."""

    def launched(self, end: End) -> Launched:
        """Return the rows of a launch that has ended."""
        records, evidence = end.records, end.evidence
        complete = len(records) == self.case.processes and all(record.comms_done for record in records.values())
        row = {**rank_facts(records), **nodes_columns(self.case.processes, end.nodes), **end.node_facts}
        failed = {} if complete else self._failed(end)
        collectives = list(self._rows(end, failed))
        row |= failed or _verdict(collectives)
        row |= {"command": None} if end.nodes else {}  # one command line does not make it again
        samples, columns = self._devices(end, row)
        others = {"comms.csv": collectives, "devices.csv": samples}
        others["ranks.csv"] = [with_node(one, end.nodes) for one in rank_rows(records, evidence.outcome.exit_codes)]
        fault = not complete and not end.verdict and is_machine_failure(evidence)
        return Launched({**row, **columns}, others, fault, code=imported(records))

    def _rows(self, end: End, failed: Row) -> Iterator[Row]:
        """Yield the rows of all rounds.

        Of a launch that ``failed`` the first round that is not known has its status and reason; those after it were not
        measured.
        """
        comms = self.case.spec.comms
        assert comms is not None
        nodes = [end.nodes.get(rank, 0) for rank in range(self.case.processes)]
        known = {rank: {times.round: times for times in record.comms} for rank, record in end.records.items()}
        for group in comms.groups:
            if not groups_at_once(group, nodes):
                yield {"group": group, "status": "skipped", "reason": why_none(group, nodes)}
        why = {"status": failed.get("status", "crashed"), "reason": failed.get("reason", "a rank has no times")}
        ended = False
        for number, one in enumerate(rounds(comms, nodes)):
            for ranks in one.groups:
                times = {rank: known.get(rank, {}).get(number) for rank in ranks}
                if all(times.values()):
                    yield {**_identity(one, ranks), **_times(one, ranks, {r: t for r, t in times.items() if t})}
                elif ended:
                    yield {**_identity(one, ranks), "status": "skipped", "reason": "the launch had ended before it"}
                else:
                    yield {**_identity(one, ranks), **why}
            ended = ended or not all(number in known.get(rank, {}) for ranks in one.groups for rank in ranks)


def _identity(one: Round, ranks: Ranks) -> Row:
    has_message = bool(one.size)
    return {
        "collective": one.collective,
        "group": one.group,
        "group_ranks": ranks_text(ranks),
        "group_size": len(ranks),
        "dtype": one.dtype or None,
        "size_bytes": one.size if has_message else None,
        "message_bytes": message_bytes(one.collective, one.dtype, one.size, len(ranks)) if has_message else None,
    }


def _times(one: Round, ranks: Ranks, times: Mapping[int, CommsTimes]) -> Row:
    """Return the figures of a collective from the times of its ranks, or why there are none."""
    bad = [one for one in times.values() if one.status != "ok"]
    if bad:
        found = next((one for one in bad if one.status != "skipped"), bad[0])
        return {"status": found.status, "reason": found.reason}
    if len({len(found.times_ns) for found in times.values()}) > 1:
        return {"status": "invalid", "reason": "its ranks tell of different numbers of iterations"}
    wrong = [rank for rank, found in times.items() if found.correct is False]
    figures = {**comms_figures(one, ranks, times), "correct": None if one.size == 0 else not wrong}
    if wrong:
        return {**figures, "status": "invalid", "reason": f"the result is wrong on rank {ranks_text(wrong)}"}
    return {**figures, "status": "ok"}


def comms_figures(one: Round, ranks: Ranks, times: Mapping[int, CommsTimes]) -> Row:
    """Return times and bandwidths of a collective; an iteration takes as long as on its slowest rank."""
    of_ranks = np.array([times[rank].times_ns for rank in ranks]) / 1e3
    slowest = of_ranks.max(axis=0)
    time_us = float(np.median(slowest))
    found = {
        "iterations": slowest.size,
        "time_us": time_us,
        "time_mean_us": float(slowest.mean()),
        "time_min_us": float(slowest.min()),
        "time_p95_us": float(np.percentile(slowest, 95)),
        "time_cv": float(slowest.std(ddof=1) / slowest.mean()) if slowest.size > 1 else None,
        "slowest_rank": ranks[int(of_ranks.sum(axis=1).argmax())],
    }
    if one.size:
        message = message_bytes(one.collective, one.dtype, one.size, len(ranks))
        algorithm = message / time_us / 1e3  # bytes / µs are MB/s
        found["algbw_gb_per_s"] = algorithm
        found["busbw_gb_per_s"] = algorithm * COLLECTIVES[one.collective].factor(len(ranks))
    return found


def _verdict(rows: list[Row]) -> Row:
    """Return the status of a launch that was completed: ``invalid`` if a result is wrong, or nothing was measured."""
    wrong = [row for row in rows if row["status"] == "invalid"]
    if wrong:
        first = wrong[0]
        size = "" if first["size_bytes"] is None else f" of {first['size_bytes']:,} bytes of {first['dtype']}"
        more = f"; so are {len(wrong) - 1} more rows of comms.csv" if len(wrong) > 1 else ""
        return {
            "status": "invalid",
            "reason": f"{first['collective']}{size} ({first['group']}): {first['reason']}{more}",
        }
    if not any(row["status"] == "ok" for row in rows):
        first = next(iter(rows))
        return {"status": "invalid", "reason": f"nothing could be measured: {first['reason']}"}
    return {"status": "ok"}
