"""What a technique changes, as text for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from analysis.diff import Diff, Kind, OpChange, Side
from analysis.summary import change_text, joules, layer_name, step_lines
from analysis.table import pairs, shortened, table
from simulator.report import change_form, plain
from simulator.totals import Change
from simulator.units import show

SCHEMA = "trainwatt-diff"
VERSION = 1

MARKS: Mapping[Kind, str] = {"removed": "-", "added": "+", "changed": "~"}
NAMES = {
    "macs": ("MACs", "MAC"),
    "flops": ("FLOPs", "FLOP"),
    "traffic_bytes": ("traffic", "byte"),
    "saved_bytes": ("saved", "byte"),
    "latency_s": ("latency", "s"),
    "energy_j": ("energy", "J"),
}
"""What a quantity is called, and its unit."""


def diff_text(found: Diff, *, by_op: bool, top: int | None) -> str:
    """Return the totals by phase and the changes by layer or by op: the `top` greatest, or all for None."""
    counts = Counter(op.kind for op in found.ops)
    marks = ", ".join(f"{counts[kind]} {kind}" for kind in ("removed", "added", "changed", "same"))
    parts = [
        pairs([("before", _step(found.before)), ("after", _step(found.after)), ("ops", marks)]),
        "by phase\n" + _phases(found),
        f"peak memory {change_text(found.peak_bytes)} ({_both(found.peak_bytes, 'byte')})",
    ]
    if found.changed:
        parts.append(_ops(found, top) if by_op else _layers(found, top))
    return "\n\n".join(parts)


def _step(side: Side) -> str:
    lines = dict(step_lines(side.graph))
    return ", ".join([lines["network"], lines["step"], *([lines["technique"]] if "technique" in lines else [])])


def _phases(found: Diff) -> str:
    rows = [("", *(NAMES[name][0] for name in found.quantities))]
    for name, changes in (*found.phases.items(), ("total", found.total)):
        rows.append((name, *(_cell(change, quantity) for quantity, change in changes.items())))
        rows.append(("", *(change_text(change) for change in changes.values())))
    return table(rows)


def _layers(found: Diff, top: int | None) -> str:
    rows = [("", *MARKS.values(), *(NAMES[name][0] for name in found.quantities))]
    listed = list(found.layers.items())
    for layer, ops in listed[:top]:
        counts = Counter(op.kind for op in ops)
        numbers = (_cell(change, name) for name, change in found.sums(ops).items())
        rows.append((shortened(layer_name(layer)), *(str(counts[kind] or "") for kind in MARKS), *numbers))
    return f"changed layers; their ops removed (-), added (+), changed (~){_of(top, listed)}\n" + table(rows)


def _ops(found: Diff, top: int | None) -> str:
    listed = found.changed
    if top is not None:
        greatest = sorted(range(len(listed)), key=lambda i: found.weight([listed[i]]), reverse=True)[:top]
        listed = tuple(listed[i] for i in sorted(greatest))
    rows = [("", "op", "kind", "layer", "phase", "result", "runs", *(NAMES[name][0] for name in found.quantities))]
    for change in listed:
        op = found.op(change)
        numbers = (_cell(c, name) for name, c in found.sums([change]).items())
        looks = (op.kind, shortened(layer_name(op.layer)), op.phase, _results(found, change), _runs(found, change))
        rows.append((MARKS[change.kind], _place(change), *looks, *numbers))
    return f"changed ops{_of(top, found.changed)}\n" + table(rows, left=7)


def _of(top: int | None, listed: Any) -> str:
    return "" if top is None or top >= len(listed) else f"; the {top} greatest of {len(listed)}, --all shows all"


def _place(change: OpChange) -> str:
    before, after = ("" if place is None else str(place) for place in (change.before, change.after))
    return _arrow(before, after)


def _results(found: Diff, change: OpChange) -> str:
    before = "" if change.before is None else found.before.outputs[change.before]
    return _arrow(before, "" if change.after is None else found.after.outputs[change.after])


def _runs(found: Diff, change: OpChange) -> str:
    before = "" if change.before is None else f"{found.before.graph.ops[change.before].runs:.4g}"
    return _arrow(before, "" if change.after is None else f"{found.after.graph.ops[change.after].runs:.4g}")


def _arrow(before: str, after: str) -> str:
    """Return what something was and is; once where it is the same or there is one only."""
    return f"{before} -> {after}" if before and after and before != after else before or after


def _cell(change: Change, quantity: str) -> str:
    return _both(change, NAMES[quantity][1])


def _both(change: Change, unit: str) -> str:
    before, after = (joules(value) if unit == "J" else show(value, unit) for value in (change.baseline, change.result))
    return before if change.baseline == change.result else f"{before} -> {after}"


def diff_document(found: Diff, device: str | None) -> dict[str, Any]:
    """Return the changes as a document, which docs/report-format.md describes; equal ops are only counted."""
    counts = Counter(op.kind for op in found.ops)
    document = {
        "schema": SCHEMA,
        "version": VERSION,
        "device": device,
        "before": _side_form(found.before),
        "after": _side_form(found.after),
        "counts": {kind: counts[kind] for kind in ("removed", "added", "changed", "same")},
        "total": {name: change_form(c) for name, c in found.total.items()},
        "peak_bytes": change_form(found.peak_bytes),
        "phases": {
            phase: {name: change_form(c) for name, c in changes.items()} for phase, changes in found.phases.items()
        },
        "layers": [
            {
                "layer": layer,
                **{kind: sum(op.kind == kind for op in ops) for kind in MARKS},
                **{name: change_form(c) for name, c in found.sums(ops).items()},
            }
            for layer, ops in found.layers.items()
        ],
        "ops": [
            {
                "change": op.kind,
                "before": _op_form(found.before, op.before),
                "after": _op_form(found.after, op.after),
            }
            for op in found.changed
        ],
    }
    return dict(plain(document))


def _side_form(side: Side) -> dict[str, Any]:
    meta = side.graph.meta
    return {
        "network": meta.get("network", ""),
        "technique": meta.get("applied"),
        "batch": side.graph.sizes.get("batch"),
        "ops": len(side.graph.ops),
    }


def _op_form(side: Side, i: int | None) -> dict[str, Any] | None:
    if i is None:
        return None
    op = side.graph.ops[i]
    return {
        "index": i,
        "name": op.name,
        "kind": op.kind,
        "layer": op.layer,
        "phase": op.phase,
        "inputs": side.inputs[i],
        "outputs": side.outputs[i],
        "runs": op.runs,
        **{name: float(column[i]) for name, column in side.columns.items()},
    }
