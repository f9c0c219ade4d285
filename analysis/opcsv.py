"""A report as CSV, one row per op."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

import numpy as np

from simulator.extent import evaluate
from simulator.graph import Graph
from simulator.report import Report
from simulator.work import KERNELS

COLUMNS = (
    "index",
    "name",
    "phase",
    "layer",
    "kind",
    "kernel",
    "inputs",
    "outputs",
    "runs",
    "macs",
    "flops",
    "read_bytes",
    "written_bytes",
    "latency_s",
    "energy_j",
    "bound",
    "utilisation",
    "start_s",
    "live_bytes",
)
"""What adds up is weighted with `runs`; `live_bytes` is the memory held during the op. `utilisation` is the share of
the device's peak rate at the op's precision that its FLOPs reach in its time; empty where either is not known."""


def to_csv(report: Report) -> str:
    """Return the ops as CSV text with a header row; shapes read `32x64x56x56`, separated by blanks."""
    graph, ops = report.graph, report.ops
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    reached = utilisation(report)
    columns = zip(
        graph.ops,
        ops.kernel.tolist(),
        ops.macs.tolist(),
        ops.flops.tolist(),
        ops.read_bytes.tolist(),
        ops.written_bytes.tolist(),
        ops.latency_s.tolist(),
        ops.energy_j.tolist(),
        ops.bound.tolist(),
        reached,
        report.timeline.start_s.tolist(),
        report.memory.live_bytes.tolist(),
        strict=True,
    )
    for index, (op, kernel, macs, flops, read, written, latency, energy, bound, share, start, live) in enumerate(
        columns
    ):
        writer.writerow(
            (
                index,
                op.name,
                op.phase,
                op.layer,
                op.kind,
                KERNELS[kernel],
                shapes(graph, op.inputs),
                shapes(graph, op.outputs),
                op.runs,
                macs,
                flops,
                read,
                written,
                latency,
                energy,
                report.cost.limits[bound],
                share,
                start,
                live,
            )
        )
    return text.getvalue()


def utilisation(report: Report) -> list[float | str]:
    """Return FLOPs / (latency * peak) of each op; an empty text where the device's card names no peak or none runs."""
    peaks = report.hardware.card.get("peaks")
    if not isinstance(peaks, Mapping) or "float32" not in peaks:
        return [""] * len(report.graph.ops)
    rate = [float(peaks.get(name, peaks["float32"])["value"]) for name in report.work.dtypes]
    peak = np.array(rate)[report.work.dtype[report.work.row_of_op]]
    time = report.ops.latency_s
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(time > 0, report.ops.flops / (time * peak), np.nan)
    return ["" if np.isnan(s) else float(s) for s in share]


def shapes(graph: Graph, tensors: tuple[int, ...]) -> str:
    """Return the shapes of tensors at the graph's sizes; a scalar is `1`."""
    return " ".join(
        "x".join(str(evaluate(extent, graph.sizes)) for extent in graph.tensors[t].shape) or "1" for t in tensors
    )
