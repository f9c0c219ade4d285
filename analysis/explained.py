"""How the prices of a layer's ops come about, step by step."""

from __future__ import annotations

from collections import Counter

from analysis.table import pairs
from simulator.errors import unknown
from simulator.report import Report
from simulator.rewriting.layers import matches


def explained(report: Report, layer: str) -> str:
    """Return the derivation of the price of each op of `layer` (a name, or one with wildcards), alike ones once.

    Raises `TrainwattError` where no op belongs to such a layer.
    """
    ops = [(i, op) for i, op in enumerate(report.graph.ops) if op.layer and matches(layer, op.layer)]
    if not ops:
        raise unknown("layer", layer, dict.fromkeys(op.layer for op in report.graph.ops if op.layer))
    rows = report.work.row_of_op
    times = Counter((op.phase, op.kind, op.layer, int(rows[i])) for i, op in ops)
    parts = []
    for (phase, kind, name, row), count in times.items():
        head = f"{name}, {phase}: {kind}" + (f", {count} times" if count > 1 else "")
        parts.append(f"{head}\n{pairs(report.hardware.explain(report.work, row))}")
    return f"on {report.device}, how each price comes about\n\n" + "\n\n".join(parts)
