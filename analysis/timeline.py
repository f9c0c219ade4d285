"""A report as a trace for chrome://tracing and ui.perfetto.dev (Chrome's Trace Event Format, JSON).

One process per resource of the device with one track per phase, and a counter of the memory held. Times are
in microseconds, as the format demands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isfinite
from typing import Any

from simulator.graph import PHASES
from simulator.report import Report

MAX_BYTES = 20_000_000
_US = 1e6


def to_trace(report: Report, max_bytes: int = MAX_BYTES) -> str:
    """Return the trace as JSON text of at most about `max_bytes`.

    Ops that take no time are left out. Where the text would be larger, neighbouring ops of a phase are
    merged, twice as many until it fits; `otherData` says how many ops stand in one event.
    """
    merge = 1
    while True:
        text = _text(report, merge)
        if len(text) <= max_bytes or merge > len(report.graph.ops):
            return text
        merge *= 2


def _text(report: Report, merge: int) -> str:
    slices = list(_slices(report, merge))
    timed = int((report.timeline.duration_s > 0).sum())
    document = {
        "displayTimeUnit": "ms",
        "otherData": {
            "network": report.network,
            "device": report.device,
            "mode": report.mode or "",
            "batch": report.graph.sizes.get("batch"),
            "technique": report.technique or "",
            "ops": len(report.graph.ops),
            "ops_left_out_because_they_take_no_time": len(report.graph.ops) - timed,
            "events": len(slices),
            "merged": merge > 1,
            "ops_merged_into_an_event_at_most": merge,
        },
        "traceEvents": [*_names(report), *slices, *_counters(report, merge)],
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def _names(report: Report) -> Iterator[dict[str, Any]]:
    for pid, resource in enumerate(report.timeline.resources, start=1):
        label = f"{report.device}: {resource}"
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": {"name": label}}
        for tid, phase in enumerate(PHASES, start=1):
            if phase in report.phases:
                yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": phase}}


def _slices(report: Report, merge: int) -> Iterator[dict[str, Any]]:
    """Yield an event for each op that takes time, or for each `merge` neighbours on one track."""
    track = {phase: tid for tid, phase in enumerate(PHASES, start=1)}
    start, duration = report.timeline.start_s.tolist(), report.timeline.duration_s.tolist()
    resource = report.timeline.resource.tolist()
    macs, flops = report.ops.macs.tolist(), report.ops.flops.tolist()
    traffic = (report.ops.read_bytes + report.ops.written_bytes).tolist()
    energy, bound = report.ops.energy_j.tolist(), report.ops.bound.tolist()
    group: list[int] = []

    def event() -> dict[str, Any]:
        first, final = group[0], group[-1]
        op = report.graph.ops[first]
        args: dict[str, Any] = {
            "op": first,
            "layer": op.layer,
            "macs": sum(macs[i] for i in group),
            "flops": sum(flops[i] for i in group),
            "bytes": sum(traffic[i] for i in group),
            "bound": report.cost.limits[bound[first]],
        }
        joules = sum(energy[i] for i in group)
        if isfinite(joules):
            args["energy_j"] = joules
        if len(group) > 1:
            args["ops"] = len(group)
        return {
            "ph": "X",
            "pid": resource[first] + 1,
            "tid": track[op.phase],
            "name": op.kind if len(group) == 1 else f"{len(group)} ops from {op.kind}",
            "cat": op.phase,
            "ts": start[first] * _US,
            "dur": (start[final] + duration[final] - start[first]) * _US,
            "args": args,
        }

    for i, op in enumerate(report.graph.ops):
        if not duration[i] > 0:
            continue
        if group:
            head = group[0]
            if len(group) == merge or op.phase != report.graph.ops[head].phase or resource[i] != resource[head]:
                yield event()
                group.clear()
        group.append(i)
    if group:
        yield event()


def _counters(report: Report, merge: int) -> Iterator[dict[str, Any]]:
    """Yield the memory held, where it changes; of `merge` ops the highest."""
    start, live = report.timeline.start_s.tolist(), report.memory.live_bytes.tolist()
    last = None
    for i in range(0, len(live), merge):
        held = max(live[i : i + merge])
        if held != last:
            last = held
            yield {"ph": "C", "pid": 1, "name": "memory held", "ts": start[i] * _US, "args": {"bytes": held}}
